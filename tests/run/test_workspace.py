"""A step runs once at a time, on this machine and on all that share its object store."""

import os
import time

import mlflow
import pytest

from fipo.config import load_config
from fipo.errors import Interrupted, LaunchError, ObjectDamaged, ObjectNotFound
from fipo.run.result import Output, StepResult
from fipo.run.run import Run
from fipo.storage import claim, open_store
from tests.finished import finish


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The workspace of one step as a machine with this folder has it; store and MLflow are shared.

    Claims are renewed often, so that one that lives is soon seen to; none here has to be found dead.
    """
    monkeypatch.setattr(claim, "RENEW_SECONDS", 0.1)
    shared = [f"storage.uri=file://{tmp_path}/objects", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    return lambda name: Run(load_config("demo", [*shared, f"run.directory={tmp_path / name}"])).step("prepare")


def test_a_step_that_runs_is_left_alone(machine):
    with machine("here").attempt():
        for do in (lambda: machine("here").attempt().__enter__(), machine("here").discard):
            with pytest.raises(LaunchError, match=r"another process is running this step \(.*/here/.* is locked\)"):
                do()
        for do in (lambda: machine("there").attempt().__enter__(), machine("there").discard):
            with pytest.raises(LaunchError, match=rf"demo/prepare/.*: {os.uname().nodename}:.*/here/.* is running"):
                do()
    machine("there").discard()
    with machine("there").attempt():
        pass


def test_a_machine_that_was_replaced_stops(machine):
    workspace = machine("here")
    with pytest.raises(Interrupted, match="SIGTERM"), workspace.attempt() as attempt:
        (present,) = workspace.store.list("demo/prepare/claims/")
        workspace.store.put(present.key.replace("000001", "000002"), b"{}")
        time.sleep(100)
    run = mlflow.MlflowClient(workspace.config.tracking_uri).get_run(attempt.tracker.run_id)
    assert run.info.status == "KILLED"


def test_outputs_are_read_where_their_result_is_found(tmp_path):
    """A store that was copied, or is reached under another address than the one that the step saw."""
    config = load_config("demo", [f"run.directory={tmp_path / 'first'}"])
    workspace, made = Run(config).step("prepare"), tmp_path / "made"
    made.mkdir()
    (made / "file").write_text("contents")
    output = workspace.publish("dataset", made)
    elsewhere = Output("s3://bucket/of/others/model", "0" * 64)
    outputs = {"dataset": output, "elsewhere": elsewhere}
    workspace.commit(StepResult("prepare", workspace.fingerprint, 1.0, outputs))
    (tmp_path / "first" / "objects").rename(tmp_path / "moved")
    moved = load_config("demo", [f"storage.uri=file://{tmp_path}/moved"])
    variant = load_config("demo", [f"storage.uri=file://{tmp_path}/moved", "run.name=variant"])
    Run(variant).adopt(Run(moved), ["prepare"])
    for here in (moved, variant):
        found = Run(here).step("prepare").result()
        assert found.outputs["dataset"].uri == output.uri.replace("/first/objects/", "/moved/")
        assert found.outputs["elsewhere"] == elsewhere
        assert open_store(found.outputs["dataset"].uri).get("file") == b"contents"


@pytest.mark.parametrize(("left", "error"), [(None, ObjectNotFound), ("contentz", ObjectDamaged)])
def test_a_damaged_input_names_the_step_that_makes_it_anew(tmp_path, left, error):
    """As chaos found it: the only copy of a file was gone, and the sentence said no more than that."""
    config, made = load_config("demo", [f"run.directory={tmp_path}"]), tmp_path / "made"
    made.mkdir()
    (made / "rows").write_text("contents")
    finish(config, "prepare", {"dataset": made})
    [stored] = tmp_path.glob("objects/demo/prepare/*/dataset/rows")
    stored.unlink()
    if left:
        stored.write_text(left)
    with pytest.raises(error, match="Step prepare left it, and makes it anew: `fipo prepare --fresh`"):
        Run(config).step("sft").input("prepare", "dataset")


def test_a_step_says_at_once_that_it_begins(tmp_path, capsys, monkeypatch):
    """Processes import PyTorch for many seconds on a busy machine before they say anything."""
    workspace = Run(load_config("demo", [f"run.directory={tmp_path}"])).step("prepare")
    monkeypatch.setattr(workspace, "_computed", lambda task: finish(workspace.config, "prepare", {}).result())
    workspace.run()
    workspace.run()
    begins, reused = capsys.readouterr().out.splitlines()
    assert begins == "[prepare] begins" and reused.startswith("[prepare] reused: ")


def test_two_steps_of_a_run_with_other_settings_at_once_have_each_their_own(tmp_path, monkeypatch):
    """One of two trainings was done with the settings of the other, and kept as a result of its own: ranks start
    seconds after the command, and read the run's file, which the other command had replaced."""
    loss = {}

    def config(name):
        return load_config("demo", [f"run.directory={tmp_path}", f"algorithm.loss={name}", "sft.steps=0"])

    def job(module, arguments, own, **_):
        Run(config("grpo")).write_settings()  # another command begins
        settings = load_config(arguments[arguments.index("--config") + 1])
        loss[own.algorithm.loss] = settings.algorithm.loss
        raise Interrupted("enough")

    monkeypatch.setattr("fipo.run.workspace.run_job", job)
    for step in ("prepare", "sft"):
        finish(config("fipo"), step, {"dataset" if step == "prepare" else "model": Output("s3://b/x", "0" * 64)})
    for name in ("fipo", "dapo"):
        with pytest.raises(Interrupted):
            Run(config(name)).step("train").run()
    assert loss == {"fipo": "fipo", "dapo": "dapo"}
