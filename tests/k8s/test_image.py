import re
from pathlib import Path

import yaml

import fipo
from components.base import IMAGE

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "k8s" / "Containerfile").read_text()


def last_stage():
    return CONTAINERFILE.split("\nFROM ")[-1]


def test_one_version_of_one_image_everywhere():
    name, tag = IMAGE.rsplit(":", 1)
    assert tag == fipo.__version__
    for rendered in (ROOT / "k8s" / "rendered").glob("*.yaml"):
        images = set(re.findall(rf"{name}:(\S+)", rendered.read_text()))
        assert images in ({tag}, {f"{tag}-cuda"}), rendered.name
    for package in (ROOT / "pipelines" / "compiled").glob("*.yaml"):
        pipeline = next(yaml.safe_load_all(package.read_text()))
        for executor in pipeline["deploymentSpec"]["executors"].values():
            assert executor["container"]["image"] == IMAGE, package.name


def test_the_last_stage_has_no_build_tools_and_no_root():
    assert "pip" not in last_stage()
    assert "COPY --from=build /opt/fipo" in last_stage()
    (user,) = re.findall(r"^USER (\S+)$", last_stage(), re.MULTILINE)
    assert user == "10001:10001", "the manifests run pods as this user"
    assert last_stage().rstrip().endswith('ENTRYPOINT ["fipo"]')


def test_dependencies_are_pinned_and_what_is_copied_exists():
    assert CONTAINERFILE.count("pip install --constraint constraints.txt") == CONTAINERFILE.count("pip install")
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    constraints = re.findall(r"CONSTRAINTS=(\S+)", CONTAINERFILE)
    assert set(constraints) == {"constraints.txt", "k8s/constraints-vllm.txt"}
    for source in {*" ".join(sources).split(), *constraints} - {"${CONSTRAINTS}"}:
        assert (ROOT / source).exists(), source
        assert f"!{source}\n" in (ROOT / ".containerignore").read_text(), source
