"""`python .ci/release.py TAG`: print the changelog's words on a release, or say what does not agree."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notes(tag: str, version: str, changelog: str) -> str:
    """The text of the changelog's newest section.

    Args:
        tag: such as `v0.2.0`.
        version: `fipo.__version__`.
        changelog: CHANGELOG.md; a section begins with `## 0.2.0 (2026-11-30)`.

    Raises:
        SystemExit: tag, version and section are of different versions, or the section has no date.
    """
    if tag != f"v{version}":
        raise SystemExit(f"tag {tag}: expected v{version}, the version in fipo/__init__.py")
    found = re.search(r"^## (\S+) \((.+?)\)\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not found or found[1] != version:
        raise SystemExit(f"CHANGELOG.md: its first section is {found and found[1]}, expected {version}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found[2]):
        raise SystemExit(
            f"CHANGELOG.md: {version} is {found[2]!r}; expected the day of the release, such as 2026-11-30"
        )
    return found[3].strip()


if __name__ == "__main__":
    source = (ROOT / "fipo" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    print(notes(sys.argv[1], version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
