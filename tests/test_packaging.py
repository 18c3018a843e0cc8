"""What people install: a wheel and an sdist, used outside the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import yaml

import fipo

ROOT = Path(__file__).resolve().parents[1]
BUILD = "from setuptools import build_meta as b; print(b.build_sdist('dist'), b.build_wheel('dist'))"


PARTS = ["fipo", "fipo_kfp", "components", "pipelines", "tests"]


def files(*folders):
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {PurePosixPath(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Folder with an sdist and a wheel, both built from what the checkout's sdist holds."""
    folder = tmp_path_factory.mktemp("packages")
    source = folder / "source"
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    subprocess.run([sys.executable, "-c", BUILD], cwd=source, check=True, capture_output=True)
    (sdist,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([sys.executable, "-c", BUILD], cwd=unpacked, check=True, capture_output=True)
    return unpacked / "dist"


@pytest.fixture(scope="module")
def site(dist, tmp_path_factory):
    """The wheel, unpacked as pip does it."""
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(site, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=site.parent, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_wheel_holds_the_product_under_names_of_its_own_and_no_tests(site):
    assert {path.name for path in site.iterdir()} == {"fipo", "fipo_kfp", f"fipo-{fipo.__version__}.dist-info"}
    expected = files("fipo") | {PurePosixPath("fipo_kfp/__init__.py")}
    for folder in ("components", "pipelines"):
        expected |= {PurePosixPath("fipo_kfp") / path for path in files(folder) if "tests" not in path.parts}
    expected = {path for path in expected if path.name != "README.md"}
    held = {PurePosixPath(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert {path for path in held if path.parts[0] in {"fipo", "fipo_kfp"}} == expected


def test_its_metadata_name_version_and_license(site):
    metadata = (site / f"fipo-{fipo.__version__}.dist-info" / "METADATA").read_text(encoding="utf-8")
    assert f"\nVersion: {fipo.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert (site / f"fipo-{fipo.__version__}.dist-info/licenses/LICENSE").read_bytes() == (
        ROOT / "LICENSE"
    ).read_bytes()


def test_it_runs_outside_the_checkout(site):
    assert run(site, "-c", "import fipo; print(fipo.__file__)").strip() == str(site / "fipo" / "__init__.py")
    assert "prepare" in run(site, "-m", "fipo.cli", "--help")
    assert "algorithm.half_life" in run(site, "-m", "fipo.cli", "settings")
    assert "demo" in run(site, "-m", "fipo.cli", "recipes")


def test_its_pipelines_compile_to_the_packages_in_it(site, tmp_path):
    run(site, "-m", "fipo_kfp.pipelines", "compile", "--output", str(tmp_path))
    shipped = sorted((site / "fipo_kfp" / "pipelines" / "compiled").glob("*.yaml"))
    assert [path.name for path in shipped] == sorted(path.name for path in tmp_path.iterdir())
    for path in shipped:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        source = str(next(yaml.safe_load_all(path.read_text()))["deploymentSpec"])
        assert set(re.findall(r"from (\w+)[\w.]* import door", source)) == {"fipo_kfp"}


def test_the_sdist_holds_no_tests(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [PurePosixPath(name) for name in archive.getnames()]
    assert not [name for name in names if "tests" in name.parts or name.name == "conftest.py"]
