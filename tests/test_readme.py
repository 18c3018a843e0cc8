"""Every command and every line of code in the README does what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fipo.cli import _parser as fipo_parser
from pipelines.__main__ import _parser as pipelines_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_with_these_options(command):
    """The commands themselves run in the tests of the steps and of the pipeline, on a smaller recipe."""
    program, *arguments = shlex.split(command)
    if program == "make":
        listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert all(f"make {target}" in listed for target in arguments)
    elif arguments[:2] == ["-m", "pipelines"]:
        pipelines_parser().parse_args(arguments[2:])
    else:
        assert program == ".venv/bin/fipo"
        fipo_parser().parse_args(arguments)


@pytest.mark.parametrize("code", blocks("python"))
def test_code_runs(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # By hand: F_3 = 0.2, F_2 = -0.1 + 0.2 g, F_1 = 0.1 - 0.1 g + 0.2 g^2, F_0 = g F_1, with g = 2^(-1/32).
    g = 2 ** (-1 / 32)
    expected = [g * (0.1 - 0.1 * g + 0.2 * g * g), 0.1 - 0.1 * g + 0.2 * g * g, -0.1 + 0.2 * g, 0.2]
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", done.stdout.splitlines()[0])]
    assert printed == pytest.approx(expected, abs=1e-4)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
