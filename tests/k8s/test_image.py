import re
import subprocess
from pathlib import Path

import yaml

import fipo
from fipo_kfp.components.base import IMAGE

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "k8s" / "Containerfile").read_text()
STAGES = {
    found[1] or "last": found[2]
    for found in re.finditer(r"^FROM \S+(?: AS (\w+))?\n(.*?)(?=^FROM |\Z)", CONTAINERFILE, re.MULTILINE | re.DOTALL)
}


def test_one_version_of_one_image_everywhere():
    name, tag = IMAGE.rsplit(":", 1)
    assert tag == fipo.__version__
    for rendered in (ROOT / "k8s" / "rendered").glob("*.yaml"):
        images = set(re.findall(rf"{name}:(\S+)", rendered.read_text()))
        assert images <= {tag, f"{tag}-cuda"}, rendered.name
    for package in (ROOT / "pipelines" / "compiled").glob("*.yaml"):
        pipeline = next(yaml.safe_load_all(package.read_text()))
        for executor in pipeline["deploymentSpec"]["executors"].values():
            assert executor["container"]["image"] == IMAGE, package.name


def test_the_last_stage_has_no_build_tools_and_no_root():
    assert "pip" not in STAGES["last"]
    (user,) = re.findall(r"^USER (\S+)$", STAGES["last"], re.MULTILINE)
    assert user == "10001:10001", "the manifests run pods as this user"
    assert STAGES["last"].rstrip().endswith('ENTRYPOINT ["fipo"]')


def test_a_change_of_the_source_makes_the_last_layer_anew_and_no_other():
    copied = re.findall(r"^COPY --from=(\w+) (\S+)", STAGES["last"], re.MULTILINE)
    assert copied == [("torch", "/opt/torch"), ("slim", "/opt/fipo"), ("app", "/opt/app")]
    source = re.compile(r"^COPY (?!--from).*\b(fipo|fipo_kfp|components|pipelines|README)\b", re.MULTILINE)
    assert [name for name, stage in STAGES.items() if source.search(stage)] == ["app"]
    # Nor does a new version number: what is to be installed is in files of its own.
    assert [name for name, stage in STAGES.items() if "COPY pyproject.toml" in stage] == ["app"]


def test_dependencies_are_pinned_and_what_is_copied_exists():
    installs = re.findall(r"pip install (.*?)(?: &&|;|$)", CONTAINERFILE, re.MULTILINE)
    hashed = [line for line in installs if line.startswith("--require-hashes --no-deps")]
    assert len(hashed) == 2, "PyTorch of the default index, and the rest"
    # Another index's PyTorch, whose hashes we have not, and fipo itself.
    assert all(line.startswith("--constraint constraints.txt") for line in installs if line not in hashed)
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    makefile = (ROOT / "k8s" / "Makefile").read_text()
    constraints = re.findall(r"CONSTRAINTS=(\S+)", CONTAINERFILE + makefile)
    assert set(constraints) == {"constraints.txt", "k8s/constraints-vllm.txt"}
    for source in {*" ".join(sources).split(), *constraints} - {"${CONSTRAINTS}"}:
        assert (ROOT / source).exists(), source
        assert f"!{source}\n" in (ROOT / ".containerignore").read_text(), source


def make(target, *variables):
    command = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT / "k8s"), target, *variables]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_base_is_named_by_its_digest_and_the_images_by_their_version():
    refused = make("image-cpu")
    assert refused.returncode and "name the base image with its digest" in refused.stderr
    base = "BASE=docker.io/library/python@sha256:0"
    built = {target: make(f"image-{target}", base).stdout for target in ("cpu", "cuda", "vllm")}
    assert all("--build-arg BASE=docker.io/library/python@sha256:0 " in command for command in built.values())
    names = {target: re.findall(r"--tag (\S+)", command) for target, command in built.items()}
    version = fipo.__version__
    assert names["cpu"] == [IMAGE] and names["cuda"] == [f"ghcr.io/fipo-rl/fipo-cuda:{version}"]
    assert names["vllm"] == [f"ghcr.io/fipo-rl/fipo-vllm:{version}"]
    # Only CUDA's Triton needs a compiler.
    assert [target for target, command in built.items() if "gcc" in command] == ["cuda", "vllm"]
