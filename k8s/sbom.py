"""A bill of materials of this Python and Debian, in CycloneDX's JSON (1.6): `python sbom.py > sbom.cdx.json`.

Python's packages with the licence that each names, Debian's by name and version. Equal contents make equal bytes: there
is no time and no serial number in it. pip is left out, which the image's last stage has not.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

LEFT_BEHIND = {"pip"}


def licence(package: metadata.PackageMetadata) -> str:
    """The licence that a package names: an SPDX expression, else its classifiers, else its own short words; or none."""
    if expression := package.json.get("license_expression"):
        return str(expression)
    classifiers = [
        line.rpartition("::")[2].strip()
        for line in package.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    named = [line for line in classifiers if line != "OSI Approved"]
    words = str(package.json.get("license") or "").strip()
    return " or ".join(named) or (words if 0 < len(words) < 60 and "\n" not in words else "")


def folders() -> list[str]:
    """Where pip installs, and an image's layers; not the path, on which packages put others that are within them."""
    found = [sysconfig.get_path(place) for place in ("purelib", "platlib")]
    layers = Path(found[0]) / "fipo-layers.pth"
    return [*found, *(layers.read_text().splitlines() if layers.exists() else [])]


def python_packages() -> dict[tuple[str, str], str]:
    """Licences of the installed distributions, by normalised name and version."""
    found = {}
    for distribution in metadata.distributions(path=folders()):
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        found[name, distribution.version] = licence(distribution.metadata)
    return {key: value for key, value in sorted(found.items()) if key[0] not in LEFT_BEHIND}


def debian_packages() -> list[tuple[str, str]]:
    """Name and version of Debian's packages; none where this is no Debian."""
    if not shutil.which("dpkg-query"):
        return []
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sorted((name, version) for name, _, version in (line.partition(" ") for line in listed.splitlines()))


def component(kind: str, name: str, version: str, words: str = "") -> dict[str, Any]:
    """One entry."""
    entry: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:{kind}/{name}@{version}",
    }
    if words:
        entry["licenses"] = [{"license": {"name": words}}]
    return entry


def bill() -> dict[str, Any]:
    """The whole document."""
    packages = python_packages()
    components = [
        component("pypi", name, version, words) for (name, version), words in packages.items() if name != "fipo"
    ]
    components += [component("deb/debian", name, version) for name, version in debian_packages()]
    version = next((version for name, version in packages if name == "fipo"), "")
    subject = component("pypi", "fipo", version, "Apache-2.0") | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
