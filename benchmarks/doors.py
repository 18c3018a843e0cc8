"""What it costs to open each door: the command that a pipeline task's pod runs, from Python's start to its end.

    python -m benchmarks.doors [--json]

Makes the tiny run of the tests once, with an MLflow server beside it as pods have one, and runs the whole pipeline
again, so that every step is reused. Then it starts each task's command as Kubeflow's launcher would: on the finished
run; and on a run that lacks the step, where it works in its own process. CPU time is user and system time of all its
processes, the median of five starts; modules are those that Python imported. The terminal shows beside them the
packages whose own code took longest to import, in milliseconds of one start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import context
from benchmarks.tracking import Server
from fipo.config import load_config
from fipo.run.run import Run
from fipo.run.workspace import Workspace
from tests import executor

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "tests" / "pipelines" / "tiny.yaml")
STATUS = {"state": "FAILED", "pipelineJobResourceName": "tiny", "pipelineTaskName": "steps", "error": {}}
WORKED = ("prepare", "gate", "register", "report")
"""Steps that work in the task's own process; the others start torchrun, or a TrainJob."""
FOLLOWER = "import kfp.dsl.executor_main, fipo_kfp.components.door, fipo.launch.trainjob"
"""What a task has imported that follows a TrainJob."""
REPEATS = 5
_IMPORTED = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


def timed(command: list[str]) -> tuple[float, float]:
    """(CPU, wall) seconds of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[:3]} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def imported(command: list[str]) -> dict[str, float]:
    """Milliseconds of each module that the command's own process imports, without what it imports in turn."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return {name: int(took) / 1000 for took, name in _IMPORTED.findall(done.stderr)}


def door(task: str, settings: list[str], folder: str) -> list[str]:
    """The task's command."""
    return executor.command(task, RECIPE, settings, folder, status=STATUS, decision="keep")


def measure(command: list[str], before: Workspace | None) -> dict[str, object]:
    """One row; what `before` has finished is forgotten before each start."""
    costs = []
    for _ in range(REPEATS):
        if before:
            before.discard()
        costs.append(timed(command))
    if before:
        before.discard()
    modules = imported(command)
    packages: dict[str, float] = defaultdict(float)
    for name, took in modules.items():
        packages[name.split(".")[0]] += took
    heaviest = ", ".join(f"{name} {took:.0f}" for name, took in sorted(packages.items(), key=lambda one: -one[1])[:4])
    return {
        "cpu_seconds": statistics.median(cpu for cpu, _ in costs),
        "wall_seconds": statistics.median(wall for _, wall in costs),
        "modules": len(modules),
        "heaviest": heaviest,
    }


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """An MLflow server's address."""
    server = Server(folder)
    server.start()
    try:
        yield server.uri
    finally:
        server.kill()


def pipeline(settings: list[str]) -> float:
    """Seconds of `python -m pipelines run`."""
    sets = [part for setting in settings for part in ("--set", setting)]
    return timed([sys.executable, "-m", "pipelines", "run", "--recipe", RECIPE, *sets])[1]


def show(name: str, row: Mapping[str, object]) -> None:
    """Print one line of the table."""
    print(
        f"{name:22}{row['cpu_seconds']:8.2f}{row['wall_seconds']:8.2f}{row['modules']:9}  {row['heaviest']}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as uri:
        settings = [f"run.directory={folder}/runs", f"tracking.uri={uri}"]
        config = load_config(RECIPE, settings)
        pipeline(settings)
        again = pipeline(settings)
        commands = {task: door(task, settings, folder) for task in executor.tasks()}
        print(f"{'task':22}{'CPU s':>8}{'wall s':>8}{'modules':>9}  heaviest packages, ms")
        for task, command in commands.items():
            name = task if task in ("configure", "finish") else f"{task}, reused"
            rows[name] = measure(command, before=None)
            show(name, rows[name])
        rows["follows a TrainJob"] = measure([sys.executable, "-c", FOLLOWER], before=None)
        show("follows a TrainJob", rows["follows a TrainJob"])
        for task in WORKED:
            rows[f"{task}, works"] = measure(commands[task], before=Run(config).step(task))
            show(f"{task}, works", rows[f"{task}, works"])
    each = again / len(commands)
    print(f"python -m pipelines run, all reused: {again:.1f} s for {len(commands)} tasks, {each:.2f} s a task")
    if options.json:
        print(json.dumps({"reused_seconds_per_task": each, "doors": rows, **context()}))


if __name__ == "__main__":
    main()
