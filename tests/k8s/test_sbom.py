"""The bill of materials that an image carries, and the licences of what fipo brings along."""

import importlib.util
import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import fipo

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "k8s" / "sbom.py"
PERMISSIVE = re.compile(r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation|Mozilla Public License 2\.0|MPL-2\.0")
LESSER = {"psycopg", "psycopg-binary"}
"""Under the LGPL: used as they are, and never linked into fipo."""
SAID_ELSEWHERE = {"huey": "MIT", "cel-python": "Apache-2.0", "skops": "MIT"}
"""Packages whose metadata name none, and what the file LICENSE in them is."""


@pytest.fixture(scope="module")
def sbom():
    spec = importlib.util.spec_from_file_location("sbom", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bill(sbom):
    return sbom.bill()


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split(";")[0].strip().split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_it_names_every_pinned_package_that_is_here(bill):
    python = {one["name"]: one["version"] for one in bill["components"] if one["purl"].startswith("pkg:pypi/")}
    command = [sys.executable, "-m", "pip", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    installed = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in listed}
    assert {name: version for name, version in installed.items() if name not in ("pip", "fipo")} == python


def test_it_is_cyclonedx_as_scanners_read_it(bill):
    """The fields that the specification requires (CycloneDX 1.6, JSON), and purls as packageurl has them."""
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert bill["metadata"]["component"]["name"] == "fipo"
    for one in bill["components"]:
        assert one["type"] == "library" and one["name"] and one["version"], one
        assert re.fullmatch(r"pkg:(pypi|deb/debian)/[A-Za-z0-9.+~:_-]+@\S+", one["purl"]), one


def test_it_names_what_the_image_has_in_layers_of_their_own(tmp_path):
    """As the Containerfile makes them: an environment whose path goes on in folders of `pip install --target`."""
    environment, layers = tmp_path / "fipo", [tmp_path / "app", tmp_path / "torch"]
    venv.create(environment)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "fipo-layers.pth").write_text("".join(f"{layer}\n" for layer in layers))
    for folder, name, version in [(packages, "numpy", "2.0"), (layers[0], "fipo", "9.9"), (layers[1], "torch", "3.0")]:
        about = folder / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    done = subprocess.run([environment / "bin" / "python", SCRIPT], capture_output=True, check=True)
    written = json.loads(done.stdout)
    python = {one["name"]: one["version"] for one in written["components"] if one["purl"].startswith("pkg:pypi/")}
    assert python == {"numpy": "2.0", "torch": "3.0"}
    assert written["metadata"]["component"]["version"] == "9.9"


def test_equal_contents_make_equal_bytes():
    first, second = (subprocess.run([sys.executable, SCRIPT], capture_output=True, check=True).stdout for _ in range(2))
    assert first == second


def test_the_image_carries_it():
    stage = (ROOT / "k8s" / "Containerfile").read_text()
    assert "python /sbom.py > /opt/app/share/fipo/sbom.cdx.json" in stage


def test_every_licence_is_listed_and_lets_fipo_be_used_freely(sbom):
    """`python -m tests.k8s.test_sbom > docs/licences.md` makes the page, a row for each pinned package."""
    table = rows(sbom)
    assert render(table) == (ROOT / "docs" / "licences.md").read_text()
    free = {name for name, words in table.items() if PERMISSIVE.search(words)}
    assert {*table} - free == LESSER & {*table}


def rows(sbom):
    """The licence of each pinned package."""
    named = {name: words for (name, _), words in sbom.python_packages().items()}
    return {name: SAID_ELSEWHERE.get(name) or named.get(name, "") for name in sorted(pinned()) if name in named}


def render(table):
    return "\n".join(
        [
            "# Licences",
            "",
            "What fipo brings along (`constraints.txt`), and the licence that each names. fipo is under Apache-2.0.",
            "An image carries the same, with versions, in `/opt/app/share/fipo/sbom.cdx.json`.",
            "",
            "| package | licence |",
            "|---|---|",
            *(f"| {name} | {words} |" for name, words in table.items()),
            "",
        ]
    )


if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("sbom", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(render(rows(module)), end="")
    assert fipo.__version__
