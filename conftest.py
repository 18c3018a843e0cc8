"""The pipeline on the smallest recipe, run once for all tests that look at what it leaves."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from fipo.config import Config, load_config
from fipo.run.result import StepResult
from tests.made_once import made_once

# Of what thousands of modules make nothing is garbage, and to look for it is half of the time that their import takes.
gc.disable()

# Each worker of pytest-xdist, and all that its tests start, has a core of its own: threads that share cores only wait.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {CORES[int(worker.removeprefix("gw")) % len(CORES)]})

# A shell has what it starts in the background (`make test &`) ignore Ctrl-C, and with it all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.artifacts"]

TINY = Path(__file__).parent / "tests" / "pipelines" / "tiny.yaml"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What runs the whole pipeline, or waits for a test that does, takes its minute."""
    slow: Counter[Path] = Counter()
    of_the_pipeline: Counter[Path] = Counter()
    for item in items:
        if {"tiny_pipeline", "start_pipeline"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
            of_the_pipeline[item.path] += 1
        slow[item.path] += item.get_closest_marker("slow") is not None
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn(item.path, slow, of_the_pipeline))


def pytest_collection_finish() -> None:
    """What is there by now stays: the collector need not look at it again."""
    gc.freeze()
    gc.enable()


def turn(path: Path, slow: Mapping[Path, int], of_the_pipeline: Mapping[Path, int]) -> tuple[int, int]:
    """Where a file's tests come among those that workers share: the slow first, so that all workers end together.

    One file makes the pipeline's run; meanwhile the other workers have tests that do not wait for it.

    Args:
        path: the file.
        slow: how many slow tests each file has.
        of_the_pipeline: how many of them look at the pipeline's run, for files with any.
    """
    if path in of_the_pipeline:
        first = max(of_the_pipeline, key=of_the_pipeline.__getitem__)
        return (0 if path == first else 2), -slow[path]
    return (1 if slow[path] else 3), -slow[path]


@dataclass(frozen=True)
class PipelineRun:
    """A finished `python -m pipelines run`."""

    recipe: str
    overrides: list[str]
    output: str

    @property
    def config(self) -> Config:
        """Its settings."""
        return load_config(self.recipe, self.overrides)

    @property
    def tasks(self) -> set[str]:
        """Tasks that Kubeflow ran to their end, in any attempt."""
        return {path.parent.name for path in self.config.run_directory.glob("kfp/**/executor_output.json")}

    def result(self, task: str) -> dict[str, Any]:
        """What a task handed to Kubeflow, parameters and artifacts."""
        (output,) = self.config.run_directory.glob(f"kfp/*/{task}/executor_output.json")
        handed: dict[str, Any] = json.loads(output.read_text())
        return handed

    def outputs(self, step: str) -> dict[str, dict[str, str]]:
        """URI and SHA-256 of what a step left in the object store, by name."""
        objects = (self.config.run.directory / "objects").absolute()
        stored = (objects / self.config.run.name / step / "result.json").read_text()
        result = StepResult.from_json(stored, f"{objects.as_uri()}/{self.config.run.name}")
        return {name: asdict(output) for name, output in result.outputs.items()}


SECRETS = {
    name: f"planted-{index}-{name[::-1].lower()}"
    for index, name in enumerate(
        [
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
            *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
            *("HF_TOKEN", "PGPASSWORD", "KF_PIPELINES_TOKEN", "FIPO_ROLLOUT_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"),
            *("AZURE_CLIENT_SECRET", "GITHUB_TOKEN"),
        ]
    )
}
"""Variables that a user may have set, and values that stand nowhere else."""


def run_pipeline(*overrides: str, options: Sequence[str] = (), code: int = 0) -> PipelineRun:
    """Run a pipeline on the tiny recipe with kfp.local, as a user does, and check the exit code."""
    command = [sys.executable, "-m", "pipelines", "run", "--recipe", str(TINY), *options]
    for override in overrides:
        command += ["--set", override]
    environment = {**os.environ, **SECRETS}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500, env=environment
    )
    assert done.returncode == code, done.stdout
    return PipelineRun(str(TINY), list(overrides), done.stdout)


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """A run through every step, to be read and not changed."""

    def make(folder: Path) -> None:
        (folder / "output").write_text(run_pipeline(f"run.directory={folder / 'runs'}").output)

    folder = made_once(tmp_path_factory, "pipeline", make)
    return PipelineRun(str(TINY), [f"run.directory={folder / 'runs'}"], (folder / "output").read_text())


@pytest.fixture
def tiny_copy(tiny_pipeline: PipelineRun, tmp_path: Path) -> str:
    """The override for a copy of that run, to go on from; Kubeflow's own records of it are left out."""
    old, new = tiny_pipeline.config.run.directory, tmp_path / "runs"
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("kfp"))
    return f"run.directory={new}"


@pytest.fixture
def start_pipeline() -> Callable[..., PipelineRun]:
    """`run_pipeline`."""
    return run_pipeline
