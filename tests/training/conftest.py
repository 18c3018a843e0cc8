"""A tiny run that is trained once for all tests of this folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.run.result import StepResult
from fipo.run.run import Run
from fipo.run.step import STEPS
from tests.made_once import made_once

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "tests" / "pipelines" / "tiny.yaml"


class TinyRun:
    """The command line on the tiny recipe, in a folder of its own."""

    def __init__(self, folder, *settings):
        self.folder = folder
        self.settings = [f"run.directory={folder}", *settings]
        self.printed = ""
        self.config = load_config(RECIPE, self.settings)

    def command(self, step, *arguments):
        sets = [part for setting in self.settings for part in ("--set", setting)]
        return [sys.executable, "-m", "fipo.cli", step, "--recipe", str(RECIPE), *sets, *arguments]

    def start(self, step, *arguments):
        return self._start(self.command(step, *arguments))

    def start_held(self, line, *arguments):
        """Training that has printed this line and waits to be stopped or killed; see tests/held.py."""
        file = self.folder / "held"
        file.write_text(line)
        command = ["tests.held" if part == "fipo.cli" else part for part in self.command("train", *arguments)]
        process = self._start(command, HELD=str(file), PYTHONPATH=str(ROOT))
        printed = []
        while file.exists():
            printed.append(process.stdout.readline())
            assert printed[-1], f"{line!r} was never printed:\n{''.join(printed)}"
        self.printed = "".join(printed)
        return process

    def __call__(self, step, *arguments):
        """Run a step to its end: (exit code, what it printed)."""
        done = self.start(step, *arguments)
        output, _ = done.communicate(timeout=1500)
        return done.returncode, output

    def _start(self, command, **environment):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def journal(self, *settings):
        """What training with these settings over its own has logged."""
        return Run(load_config(RECIPE, [*self.settings, *settings])).step("train").directory / "journal.jsonl"

    def result(self, step):
        run = self.folder / "objects" / "tiny"
        return StepResult.from_json((run / step / "result.json").read_bytes(), run.as_uri())


class ForkedRun:
    """Training of a `TinyRun` in forks (tests/warm.py), for tests that are not about the command or torchrun."""

    def __init__(self, warm, run):
        self.run, self._warm = run, warm
        self.folder, self.config, self.journal, self.result = run.folder, run.config, run.journal, run.result

    def start(self, step, *settings, fresh=False, program="", **environment):
        config = load_config(RECIPE, [*self.run.settings, *settings])
        run = Run(config)
        if fresh:
            run.step(step).discard()
        run.record_settings()
        job, arguments = program or STEPS[step].job, ("--config", run.write_settings())
        return self._warm.start(job, *arguments, ranks=config.distributed.processes, **environment)

    def start_held(self, line, *settings, fresh=False):
        """Training that has printed this line and waits to be stopped or killed; see tests/held.py."""
        file = self.folder / "held"
        file.write_text(line)
        job = self.start("train", *settings, fresh=fresh, program="tests.held", HELD=str(file))
        printed = []
        while file.exists():
            printed.append(job.stdout.readline())
            assert printed[-1], f"{line!r} was never printed:\n{''.join(printed)}"
        return job

    def all_steps(self):
        """To the end of training."""
        for do, step in ((self.run, "prepare"), (self, "sft"), (self, "train")):
            code, output = do(step)
            assert code == 0, output

    def __call__(self, step, *settings, fresh=False):
        """Run a step's job to its end: (exit code, what it printed)."""
        job = self.start(step, *settings, fresh=fresh)
        output, _ = job.communicate()
        return job.returncode, output


FOUR_STEPS = ("train.steps=4", "distributed.processes=2")


@pytest.fixture(scope="session")
def tiny_run(warm, tmp_path_factory):
    """Trained to its end, and nothing happened to it."""

    def make(folder):
        run = TinyRun(folder, *FOUR_STEPS)
        ForkedRun(warm, run).all_steps()
        (folder / "undisturbed").write_text(run.result("train").outputs["model"].sha256)

    return TinyRun(made_once(tmp_path_factory, "tiny", make), *FOUR_STEPS)


@pytest.fixture(scope="session")
def forked_run(warm, tiny_run):
    """`tiny_run`, in forks."""
    return ForkedRun(warm, tiny_run)


@pytest.fixture(scope="session")
def undisturbed(tiny_run):
    """SHA-256 of the weights that training ends with, when nothing happens."""
    return (tiny_run.folder / "undisturbed").read_text()


@pytest.fixture(scope="session")
def vllm_run(tmp_path_factory):
    """A run whose model is large enough for vLLM's kernels."""
    folder = tmp_path_factory.mktemp("vllm")
    run = TinyRun(folder, "model.architecture.hidden_size=64", "train.steps=2", "evaluation.samples=2")
    for step in ("prepare", "sft"):
        code, output = run(step)
        assert code == 0, output
    return run
