"""fipo from notebooks and other programs: names, DataFrames, what each needs installed, and the notebook itself."""

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fipo
from fipo.config import load_config
from fipo.errors import ConfigError, DataError, ObjectNotFound
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.evaluation.tables import write_result
from fipo.outcome import Outcome
from fipo.run.result import Output, StepResult
from fipo.run.run import Run
from fipo.tracking.journal import Journal
from tests.inspect.conftest import Records

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run `demo` that has two recorded steps of training, metrics and an evaluation."""
    folder = tmp_path_factory.mktemp("library")
    made = Run(load_config("demo", [f"run.directory={folder / 'runs'}"]))
    made.write_settings()
    records = Records(folder / "runs" / "objects")
    records.prefix = "demo/train/rollouts/0123456789ab"
    for step in (1, 2):
        wrong = records.response("one", "two", outcome=Outcome.WRONG)
        records.write(step, records.group(f"{step:064x}", records.response("one"), wrong))
    journal = Journal(made.directory / "train" / "0123456789ab" / "journal.jsonl")
    journal.append({"kind": "metrics", "time": 0, "step": 1, "values": {"rollout/accuracy": 0.5}})
    journal.append({"kind": "metrics", "time": 0, "step": 2, "values": {"rollout/accuracy": 0.6}})
    journal.append({"kind": "metrics", "time": 0, "step": 2, "values": {"rollout/response_tokens_mean": 3.0}})
    journal.append({"kind": "metrics", "time": 0, "step": 2, "values": {"rollout/accuracy": 0.7}})
    for sample in (0, 1, 7):
        values = {"system/cpu_utilization_percentage": 50.0}
        journal.append({"kind": "metrics", "time": 0, "step": sample, "values": values})
    journal.close()
    for model, outcome in (("warmup", Outcome.WRONG), ("trained", Outcome.CORRECT)):
        problem = ProblemResult("id", "1 + 1", "2", (GradedResponse("so 2", "2", outcome, 3, False, "2"),))
        write_result(
            BenchmarkResult("sums", (problem,)), folder / "runs" / "objects" / "demo" / "evaluate" / "r" / model
        )
    output = Output(f"{made.results.store.uri}/demo/evaluate/r", "")
    made.results.put(StepResult("evaluate", "f" * 64, 1.0, {"results": output}, finished="2026-01-01T00:00:00+00:00"))
    return made


def test_the_names_are_those_of_the_rooms():
    from fipo.algorithm.future_kl import future_kl
    from fipo.algorithm.loss import fipo_loss

    assert fipo.fipo_loss is fipo_loss and fipo.future_kl is future_kl
    assert fipo.load_config is load_config and fipo.Run is Run
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fipo.nothing  # noqa: B018


def test_importing_fipo_imports_nothing_else():
    heavy = "{'torch', 'pydantic', 'yaml', 'numpy', 'mlflow', 'pandas', 'transformers'} & set(sys.modules)"
    done = python(f"import fipo, sys; print(sorted({heavy})); fipo.load_config; print('torch' in sys.modules)")
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr


BLOCKER = """
import importlib.metadata as metadata, re, sys
normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
allowed, new = set(), {"torch"}
while new:
    allowed |= new
    needs = [need for name in new for need in metadata.requires(name) or [] if "extra ==" not in need]
    new = {normal(re.split(r"[^\\w.-]", need)[0]) for need in needs} - allowed
    new = {name for name in new if any(metadata.distributions(name=name))}
modules = {module for module, names in metadata.packages_distributions().items()
           if set(map(normal, names)) & allowed}
others = set(metadata.packages_distributions()) - modules - {"fipo", "_distutils_hack"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, Blocker())
for name in list(sys.modules):
    assert name.split(".")[0] not in others, name
"""


def test_the_loss_needs_torch_alone():
    """As after `pip install fipo`: all that other packages bring is hidden."""
    assert [need.split(">")[0] for need in PROJECT["dependencies"]] == ["torch"]
    imports = "import fipo.algorithm.advantages, fipo.algorithm.corrections, fipo.algorithm.guards, fipo.cli\n"
    done = python(BLOCKER + (ROOT / ".ci" / "alone.py").read_text() + imports)
    assert " alone: loss -1.1363\n" in done.stdout, done.stderr  # by hand: (e^0.05 + e^0.2) / 2
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("fipo: ")
    assert "pip install 'fipo[train]'" in done.stderr and "Traceback" not in done.stderr


def test_every_import_of_the_product_is_in_an_extra_that_its_users_install():
    """`train` has what `fipo` imports besides its adapters to Kubernetes, vLLM and TRL."""
    extras = {name: {need.split(">")[0].split("[")[0].lower() for need in needs}
              for name, needs in PROJECT["optional-dependencies"].items()}  # fmt: skip
    assert {"pandas", "starlette", "uvicorn", "mlflow", "pydantic", "pyyaml"} <= extras["train"]
    assert extras["pipelines"] == {"kfp", "kfp-kubernetes"} and extras["trl"] == {"trl", "accelerate"}
    assert 'IMAGE = ["train", "pipelines", ' in (ROOT / ".ci" / "hashes.py").read_text()


def test_responses_are_a_frame(run):
    frame = run.rollouts()
    assert frame.groupby("step").accuracy.mean().to_dict() == {1: 0.5, 2: 0.5}
    assert frame.response.tolist() == ["one <end>", "one two <end>"] * 2
    assert frame.influence_weights[1].tolist() == pytest.approx(np.linspace(0.9, 1.2, 3), abs=1e-3)
    assert run.rollouts(step=2).step.tolist() == [2, 2]
    with pytest.raises(DataError, match="no step 3 is recorded; there are 1 to 2"):
        run.rollouts(step=3)


def test_metrics_are_a_frame_with_what_was_logged_last(run):
    frame = run.metrics()
    assert frame["rollout/accuracy"].to_dict() == {1: 0.5, 2: 0.7} and frame.index.name == "step"
    assert np.isnan(frame["rollout/response_tokens_mean"][1]) and frame["rollout/response_tokens_mean"][2] == 3.0
    with pytest.raises(ObjectNotFound, match="'sft' has not finished"):
        run.metrics("sft")


def test_samples_of_the_machine_are_no_steps_of_training(run):
    frame = run.metrics()
    assert frame.index.tolist() == [1, 2] and not any(name.startswith("system/") for name in frame.columns)


def test_a_wrong_name_of_a_step_names_those_that_there_are(run):
    for ask in (run.metrics, run.step):
        with pytest.raises(ConfigError, match="step 'training': must be one of prepare, sft, train"):
            ask("training")


def test_problems_are_a_frame(run):
    frame = run.problems()
    right = frame.assign(right=frame.outcome == "correct").groupby("model").right.mean()
    assert right.to_dict() == {"trained": 1.0, "warmup": 0.0} and set(frame.benchmark) == {"sums"}


def test_a_run_without_records_says_so(tmp_path):
    made = Run(load_config("demo", [f"run.directory={tmp_path}"]))
    for ask, error in ((made.rollouts, DataError), (made.metrics, ObjectNotFound), (made.problems, ObjectNotFound)):
        with pytest.raises(error, match="'demo'"):
            ask()


@pytest.mark.slow
def test_the_notebook_runs(run, monkeypatch, capsys):
    """Every cell, in order, in one namespace, beside the `runs/` of a demo."""
    pytest.importorskip("trl")
    monkeypatch.chdir(run.directory.parent.parent)
    notebook = json.loads((ROOT / "docs" / "library.ipynb").read_text())
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for at, cell in enumerate(cells):
        assert cell["outputs"] == [] and cell["execution_count"] is None, "kept without outputs"
        exec(compile("".join(cell["source"]), f"cell {at}", "exec"), namespace)
    assert namespace["responses"].step.tolist() == [1, 1, 2, 2] and len(namespace["answers"]) == 2
    assert "f 1.2" in capsys.readouterr().out
    assert all(name in "".join("".join(cell["source"]) for cell in cells) for name in ("FipoTrainer", "fipo_loss"))
