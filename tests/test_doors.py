"""What a task imports: nothing that it has no need for. The commands are those of the compiled pipeline's pods."""

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fipo.config import load_config
from fipo.records import Decision, Evaluated, Registration
from fipo.run.step import STEPS
from tests import executor
from tests.finished import finish

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "tests" / "pipelines" / "tiny.yaml")
HEAVY = {
    "boto3", "datasets", "deepspeed", "kfp.client", "kfp.compiler", "kubernetes", "matplotlib", "mlflow", "numpy",
    "pandas", "pyarrow", "rich", "scipy", "sympy", "torch", "transformers",
}  # fmt: skip
"""Each takes from a tenth of a second to seconds to import."""

MLFLOW = {"mlflow", "pandas", "pyarrow", "numpy", "scipy"}
"""It imports the others itself."""

NEEDED = {
    "configure": set(),
    "doctor": set(),  # no GPUs are asked for
    # What is there already is only looked up; the report's page is brought by the module that writes it.
    **{step: set() for step in STEPS if step != "score"},  # of another pipeline, on the same way
    "report": {"numpy", "pyarrow"},
    "finish": MLFLOW,
}
"""By task of a run in which everything is finished."""

WORK = {
    "import fipo.launch.local": set(),
    "import fipo.launch.trainjob": {"kubernetes"},
    "import fipo.release.gate, fipo.evaluation.tables": {"numpy", "pyarrow"},
    "import fipo.report.run": {"numpy", "pyarrow"},
    "import fipo.report.side_by_side, fipo.report.terminal": {"numpy", "pyarrow", "rich"},
    "import fipo.release.registry, fipo.tracking": set(),
    "from fipo.tracking.client import load; load()": MLFLOW,
    "import fipo.storage": set(),
    "import fipo.check, fipo.config as c; fipo.check.require(c.load_config('demo'), ['prepare'])": {
        "numpy",
        "pyarrow",
        "transformers",
    },
    # What looks after a TrainJob of it reads no text.
    "import fipo.check, fipo.config as c; fipo.check.require(c.load_config('demo'), ['train'])": {"numpy", "pyarrow"},
    # The tokenizer of a recipe's own model; that of a published one is AutoTokenizer's to find, which brings torch.
    "import fipo.data.step, fipo.config as c; fipo.data.step.load_tokenizer(c.load_config('demo').model)(['1 2'])": {
        "numpy",
        "pyarrow",
        "transformers",
    },
}
"""By what a step, a task that follows a TrainJob or the exit handler imports when it works."""


def heavy(command, **environment):
    """The heavy packages that a Python program and what it starts have imported."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "PYTHONPROFILEIMPORTTIME": "1", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return HEAVY & set(re.findall(r"^import time:.*\|\s+(\S+)$", done.stderr, re.MULTILINE))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(settings, folder) of a run whose steps count as finished, though none has run."""
    folder = tmp_path_factory.mktemp("doors")
    settings = [f"run.directory={folder}/runs", "tracking.uri=http://127.0.0.1:9"]  # nobody answers there
    report = folder / "report"
    report.mkdir()
    for name in ("report.html", "summary.json"):
        (report / name).write_text("{}")
    records: dict[str, Any] = {
        "register": Registration("tiny", "1", "file:///weights", "0"),
        "gate": Decision(True, "avg_at_k", "sums", 1.0, 0.5, None, "it is"),
        "evaluate": Evaluated({}),
    }
    for step in STEPS:
        metrics = {"gate/passed": 1.0, "data/read": 1.0}
        record = {"record": asdict(records[step])} if step in records else {}
        finish(load_config(RECIPE, settings), step, {"report": report}, metrics=metrics, **record)
    return settings, folder


@pytest.mark.parametrize("task", NEEDED)
def test_a_task_that_has_nothing_to_do_imports_little(finished, task):
    settings, folder = finished
    status = {"state": "FAILED", "pipelineJobResourceName": "tiny", "pipelineTaskName": "steps", "error": {}}
    command = executor.command(task, RECIPE, settings, str(folder), status=status, decision="keep")
    assert heavy(command) <= NEEDED[task]


@pytest.mark.parametrize("line", WORK)
def test_work_imports_what_it_needs(line):
    assert heavy([sys.executable, "-c", line]) <= WORK[line]


def test_an_import_too_many_is_seen():
    assert heavy([sys.executable, "-c", "import numpy, fipo.config"]) == {"numpy"}
