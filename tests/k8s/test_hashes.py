"""What images and the docs' site install is known by its SHA-256, in the versions that were tested together."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = {"": "constraints.txt", "-vllm": "k8s/constraints-vllm.txt"}
EXTRAS = {
    "": ["train", "pipelines", "k8s", "server", "serve"],
    "-vllm": ["train", "pipelines", "k8s", "server", "vllm"],
}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def hashed(path):
    """Version and hashes by name; each entry is a line and its continuations."""
    entries = (ROOT / path).read_text().replace("\\\n", " ").splitlines()
    found = {}
    for entry in entries:
        ((name, version, hashes),) = re.findall(r"^(\S+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)$", entry)
        found[canonical(name)] = (version, hashes.split())
    assert len(found) == len(entries), "each once"
    return found


def pinned(path):
    pairs = (line.split(";")[0].strip().split("==") for line in (ROOT / path).read_text().splitlines() if "==" in line)
    return {canonical(name): version for name, version in pairs}


@pytest.mark.parametrize("suffix", IMAGES)
def test_an_image_installs_what_was_tested(suffix):
    torch, rest = hashed(f"k8s/hashes/torch{suffix}.txt"), hashed(f"k8s/hashes/fipo{suffix}.txt")
    assert not torch.keys() & rest.keys(), "layers of their own"
    tested = pinned(IMAGES[suffix])
    versions = {name: version for name, (version, _) in (torch | rest).items()}
    assert {name: version for name, version in versions.items() if tested.get(name, version) != version} == {}
    # The others come with CUDA, which the tests' own PyTorch has not, or are of PyTorch's own making.
    assert {name for name in rest if name not in tested} == set()


@pytest.mark.parametrize("suffix", IMAGES)
def test_an_image_has_all_that_fipo_asks_for(suffix):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for extra in EXTRAS[suffix] for line in extras[extra])]
    names = {canonical(re.findall(r"^[\w.-]+", line)[0]) for line in asked} - {"fipo"}
    assert names <= hashed(f"k8s/hashes/torch{suffix}.txt").keys() | hashed(f"k8s/hashes/fipo{suffix}.txt").keys()


def test_the_site_is_built_from_what_has_a_hash():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {canonical(re.findall(r"^[\w.-]+", line)[0]) for line in project["optional-dependencies"]["docs"]}
    assert names <= hashed("constraints-docs.txt").keys()
    assert "--require-hashes --requirement constraints-docs.txt" in (ROOT / "Makefile").read_text()
