"""Every command and every line of code in the README does what it says."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.present import present
from tests.waiting import wait_until, wait_until_gone

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]
TINY = ROOT / "tests" / "pipelines" / "tiny.yaml"


def test_make_targets_exist():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = [command.removeprefix("make ") for command in COMMANDS if command.startswith("make ")]
    assert targets == ["demo", "test"]
    assert all(f"make {target}" in listed for target in targets)
    planned = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m pipelines run --recipe demo" in planned


def test_every_other_command_runs(tiny_copy, tmp_path):
    """One after another, with the tiny recipe in the demo's place, where the pipeline has run: its steps are reused."""
    assert tiny_copy == f"run.directory={tmp_path / 'runs'}"
    checkout = {**os.environ, "PYTHONPATH": str(ROOT)}  # `pipelines` lies at its top
    for command in COMMANDS:
        if command.startswith("make ") or command.endswith("fipo ui"):
            continue
        small = command.replace("--recipe demo", f"--recipe {TINY}").replace("report demo", "report tiny")
        program = [sys.executable] if "bin/python" in small else [sys.executable, "-m", "fipo.cli"]
        command_line = [*program, *shlex.split(small)[1:]]
        done = subprocess.run(command_line, cwd=tmp_path, env=checkout, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if "pipelines run" in command:
            assert all(f"[{step}] reused" in done.stdout for step in ("prepare", "sft", "train", "evaluate"))
    assert {"report.html", "summary.json", "config.yaml"} <= {path.name for path in (tmp_path / "runs/tiny").iterdir()}
    assert list((tmp_path / "compiled").glob("*.yaml"))


def healthy(port, ui):
    def answers():
        assert ui.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    return wait_until(answers)


@pytest.mark.slow
def test_the_ui_answers_and_comes_back_when_it_dies(tmp_path):
    assert ".venv/bin/fipo ui" in COMMANDS
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "fipo.cli", "ui", "--port", str(port)]
    ui = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert healthy(port, ui)
        taken = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert (taken.returncode, "name another one with --port" in taken.stderr) == (1, True)
        (child,) = psutil.Process(ui.pid).children()
        os.killpg(child.pid, signal.SIGKILL)
        assert any("ended unexpectedly: it is started again" in line for line in present(ui.stdout))
        assert healthy(port, ui)
        processes = psutil.Process(ui.pid).children(recursive=True)
    finally:
        ui.terminate()
        assert ui.wait(600) == 0
    assert processes
    wait_until_gone(processes)


@pytest.mark.parametrize("code", blocks("python"))
def test_code_runs(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    # By hand: F_3 = 0.2, F_2 = -0.1 + 0.2 g, F_1 = 0.1 - 0.1 g + 0.2 g^2, F_0 = g F_1, with g = 2^(-1/32).
    g = 2 ** (-1 / 32)
    expected = [g * (0.1 - 0.1 * g + 0.2 * g * g), 0.1 - 0.1 * g + 0.2 * g * g, -0.1 + 0.2 * g, 0.2]
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", done.stdout.splitlines()[0])]
    assert printed == pytest.approx(expected, abs=1e-4)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
