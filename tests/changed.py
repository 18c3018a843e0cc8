"""`python -m tests.changed [COMMIT]`: tests of the rooms that differ from COMMIT (main), for `make test-fast`.

A room is a folder or module of `fipo`, or one of the repository's other folders. What else a change may break is for
the whole suite to say.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = ("tests/test_architecture.py", "tests/test_config.py", "tests/test_pages.py", "tests/test_repository.py")
"""Quick ones that look at all of the source."""
MORE = {
    "components": ("tests/pipelines", "tests/test_doors.py"),
    "pipelines": ("tests/pipelines", "tests/k8s/test_task_pods.py"),
    "fipo/run": ("tests/test_cli.py", "tests/inspect"),
    "fipo/figures": ("tests/report", "tests/data"),
    "fipo/rollout": ("tests/environments", "tests/inspect"),
    "fipo/findings": ("tests/check", "tests/k8s/test_cluster_check.py"),
    "fipo/files": ("tests/inputs", "tests/storage"),
    "fipo/models": ("tests/published",),
    "fipo/redaction": ("tests/test_secrets.py",),
    "fipo/uris": ("tests/storage",),
    "fipo/records": ("tests/report", "tests/run"),
    "fipo/check": ("tests/test_wrong_inputs.py", "tests/test_quickstart.py", "tests/doctor"),
    "fipo/cli": ("tests/test_wrong_inputs.py",),
    "fipo/commands": ("tests/test_cli.py", "tests/test_wrong_inputs.py"),
    "fipo/config": ("tests/test_cli.py", "tests/test_wrong_inputs.py"),
    "fipo/planning": ("tests/init",),
    "fipo/init": ("tests/test_quickstart.py",),
    "fipo/batch": ("tests/algorithm", "tests/rollout"),
    "fipo/errors": ("tests/test_cli.py",),
    "fipo/outcome": ("tests/evaluation", "tests/rewards"),
    "fipo/environments": ("tests/rollout",),
    "fipo/recipes": ("tests/planning",),
    "k8s": ("tests/apiserver",),
    "fipo/launch": ("tests/k8s", "tests/apiserver"),
    "docs": ("tests/pipelines/test_deploy_docs.py",),
    "fipo_kfp": ("tests/test_packaging.py",),
    "pyproject.toml": ("tests/test_packaging.py", "tests/k8s/test_image.py"),
}
"""Tests of a room that have another name than it."""


def tests_of(path: str) -> Iterator[str]:
    """The tests, files or folders that exist, of the room of a file."""
    parts = Path(path).parts
    if parts[0] == "tests" and len(parts) > 1:
        here = Path(path) if Path(path).name.startswith("test_") else Path(path).parent
        yield from _there(str(here)) if here != Path("tests") else ()
        return
    if parts[0] == "components" and len(parts) > 2:
        yield from _there(f"components/{parts[1]}/tests")
    room = "/".join(parts[:2]).removesuffix(".py") if parts[0] == "fipo" else parts[0]
    name = room.removeprefix("fipo/")
    yield from _there(f"tests/{name}", f"tests/test_{name}.py", *MORE.get(room, ()))


def selected(changed: Iterable[str]) -> list[str]:
    """What to hand to pytest, without what a folder in the list holds anyway."""
    found = {*ALWAYS, *(test for path in changed for test in tests_of(path))}
    return sorted(test for test in found if not any(test.startswith(f"{other}/") for other in found))


def changed_since(commit: str) -> list[str]:
    """Files that differ from where this branch left `commit`, those that git does not hold yet too."""
    base = _git("merge-base", "HEAD", commit).strip()
    return sorted(
        {*_git("diff", "--name-only", base).split(), *_git("ls-files", "--others", "--exclude-standard").split()}
    )


def _there(*paths: str) -> list[str]:
    return [path for path in paths if (ROOT / path).exists()]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(re.sub(r"^fatal: ", "git: ", done.stderr.strip()))
    return done.stdout


if __name__ == "__main__":
    print(*selected(changed_since(sys.argv[1] if len(sys.argv) > 1 else "main")), sep="\n")
