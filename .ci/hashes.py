"""Writes the pins with hashes: `pip install uv && python .ci/hashes.py`, after a change of pyproject.toml or of pins.

Versions are those of the constraints, or of the file that is there; hashes are those of all files of a version that the
index has: wheels for each platform, and the source. The sets are those of Python 3.11 on Linux.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
IMAGE = ["train", "pipelines", "k8s", "server"]


def compile_pins(output: str, requirements: list[str], *options: str) -> set[str]:
    """Write one file; the names of the packages in it."""
    command = ["uv", "pip", "compile", "-", "--output-file", output, "--generate-hashes", "--quiet"]
    command += ["--python-version", "3.11.5", "--python-platform", "linux", "--no-header", "--no-annotate", *options]
    subprocess.run(command, input="\n".join(requirements), text=True, cwd=ROOT, check=True)
    lines = (ROOT / output).read_text().splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line.partition(" ")[0]}


def compile_image(suffix: str, constraints: str, extras: list[str]) -> None:
    """PyTorch and what it needs in one file, the rest in another: they are layers of their own."""
    of_torch = compile_pins(f"k8s/hashes/torch{suffix}.txt", ["torch"], "--constraint", constraints)
    named = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    without = [part for name in sorted(of_torch) for part in ("--no-emit-package", name)]
    compile_pins(f"k8s/hashes/fipo{suffix}.txt", named, "--constraint", constraints, *without)


def main() -> None:
    """Write them all."""
    compile_pins("constraints-docs.txt", EXTRAS["docs"])
    compile_image("", "constraints.txt", [*IMAGE, "serve"])
    compile_image("-vllm", "k8s/constraints-vllm.txt", [*IMAGE, "vllm"])


if __name__ == "__main__":
    sys.exit(main())
