"""Every attack of `python -m tests.chaos` that a run did not survive at first, by itself."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.errors import StorageError
from fipo.files import own_mark, replacing, sweep
from fipo.run.result import Output, StepResult
from fipo.run.run import Run
from fipo.storage import claimed, open_store
from fipo.tracking.client import RUN_KEY, connect, find_runs
from tests.finished import finish
from tests.struck import RECIPE
from tests.waiting import wait_until

PUT = """
import os, signal, sys
from pathlib import Path
from fipo.files import replacing
from fipo.storage import open_store
strike = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "store":
    os.fchmod = strike  # written, and not yet in its place
    open_store(Path(sys.argv[1]).as_uri()).put("folder/object", b"half")
else:
    os.fsync = strike
    with replacing(Path(sys.argv[1]) / "folder" / "object", durable=True) as unfinished:
        unfinished.write_bytes(b"half")
"""


def put(folder, where):
    if where == "store":
        open_store(folder.as_uri()).put("folder/object", b"whole")
    else:
        with replacing(folder / "folder" / "object") as unfinished:
            unfinished.write_bytes(b"whole")


@pytest.mark.parametrize("where", ["store", "folder"])
def test_what_a_killed_write_left_goes_with_the_next_one(tmp_path, where):
    done = subprocess.run([sys.executable, "-c", PUT, str(tmp_path), where], check=False)
    left = list((tmp_path / "folder").iterdir())
    assert done.returncode == -9 and len(left) == 1 and left[0].name.startswith(".")
    put(tmp_path, where)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["object"]


WRITERS = {
    "this process": f".object.{own_mark()}",
    "another machine": ".object.00000000-99999999",
    "none": ".object.notes",
}


@pytest.mark.parametrize("name", WRITERS.values(), ids=WRITERS)
def test_what_another_process_or_machine_writes_stays(tmp_path, name):
    """The first is of this process, which lives; the second of another machine, whose processes nobody here knows."""
    (tmp_path / name).write_text("unfinished")
    (tmp_path / f".tmp-{name.removeprefix('.object.')}").write_text("unfinished")
    open_store(tmp_path.as_uri()).put("other", b"x")
    with replacing(tmp_path / "else", private=True) as unfinished:
        unfinished.write_text("x")
    assert (tmp_path / name).exists() and (tmp_path / f".tmp-{name.removeprefix('.object.')}").exists()


def test_a_claim_of_a_process_killed_after_its_result_is_released_by_the_same_command(tmp_path):
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    workspace = finish(config, "prepare", {})
    workspace.directory.mkdir(parents=True)
    store, prefix, number = workspace.store, workspace._claim_prefix, "000001.json"
    with claimed(store, prefix, holder=workspace._place, on_lost=lambda: None):
        held = store.get(f"{prefix}/{number}")
    store.put(f"{prefix}/{number}", held)  # as if that process had not come to its end
    assert json.loads(held)["token"]
    Run(config).step("prepare").run()
    assert not json.loads(store.get(f"{prefix}/{number}"))["token"]


TRACKED = """
import os, signal, sys
from fipo.config import load_config
from fipo.run.run import Run
workspace = Run(load_config(sys.argv[1], [f"run.directory={sys.argv[2]}"])).step("prepare")
assert workspace._tracker().run_id  # it is RUNNING in MLflow
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_mlflow_run_of_a_process_killed_after_its_result_is_ended_by_the_same_command(tmp_path):
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    workspace = finish(config, "prepare", {})
    killed = subprocess.run([sys.executable, "-c", TRACKED, str(RECIPE), str(tmp_path)], check=False)
    client = connect(config.tracking_uri)
    (run,) = find_runs(client, RUN_KEY, workspace.run_key)
    assert killed.returncode == -9 and run.info.status == "RUNNING"
    Run(config).step("prepare").run()
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("error", [StorageError("the server answered 500"), KeyboardInterrupt()])
def test_the_mlflow_run_of_a_step_that_failed_after_its_result_ends_well_by_the_same_command(tmp_path, error):
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    workspace = Run(config).step("prepare")
    with pytest.raises(type(error)), workspace.attempt() as attempt:
        attempt.commit(1.0)
        raise error  # a look at the store or Ctrl-C, when all is done
    client = connect(config.tracking_uri)
    [run] = find_runs(client, RUN_KEY, workspace.run_key)
    assert run.info.status in ("FAILED", "KILLED")
    for _ in range(2):
        assert Run(config).step("prepare").run().reused
        assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_an_attempt_that_failed_stays_so_where_another_one_went_on_to_the_result(tmp_path):
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    workspace = Run(config).step("prepare")
    with pytest.raises(StorageError), workspace.attempt():
        raise StorageError("the server answered 500")
    own = workspace.identity
    result = StepResult("prepare", "c" * 64, 1.0, {}, settings=own.settings, inputs=dict(own.inputs))
    workspace.commit(replace(result, continued=["after step 2: sft.steps"]))
    assert Run(config).step("prepare").run().reused
    [run] = find_runs(connect(config.tracking_uri), RUN_KEY, workspace.run_key)
    assert run.info.status == "FAILED"


def test_an_output_that_is_damaged_and_of_its_old_size_is_made_anew_by_fresh(tmp_path):
    config = load_config(RECIPE, [f"run.directory={tmp_path / 'runs'}"])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "rows").write_text("right")
    workspace = finish(config, "prepare", {"dataset": tmp_path / "made"})
    [damaged] = (tmp_path / "runs").rglob("rows")
    damaged.write_text("wrong")
    workspace.discard()
    anew = finish(config, "prepare", {"dataset": tmp_path / "made"})
    fetched = anew.fetch(anew.result().outputs["dataset"], "x")
    assert (fetched / "rows").read_text() == "right"


@pytest.mark.parametrize("old, new", [("0.25", "0.26"), ('"seconds": 1', '"seconds": 2'), ("a" * 64, "b" + "a" * 63)])
def test_a_changed_character_of_a_result_is_noticed(tmp_path, old, new, capsys):
    """JSON it still is, and another result: it is taken as absent, and the step is done again."""
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    outputs = {"dataset": Output("file:///elsewhere", "a" * 64)}
    workspace = finish(config, "prepare", outputs, metrics={"data/read": 0.25})
    assert workspace.finished()
    for path in tmp_path.rglob("results/*.json"):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
    assert workspace.finished() is None
    assert "its digest is not that of its contents; taken as absent" in capsys.readouterr().err.replace(
        "')", ""
    ).replace("'", "")


def test_a_claim_of_another_machine_is_not_released_by_it(tmp_path):
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    workspace = finish(config, "prepare", {})
    workspace.directory.mkdir(parents=True)
    with claimed(workspace.store, workspace._claim_prefix, holder="another:/runs", on_lost=lambda: None):
        Run(config).step("prepare").run()
        assert json.loads(workspace.store.get(f"{workspace._claim_prefix}/000001.json"))["token"]


def test_what_a_killed_process_left_goes_though_nobody_has_asked_how_it_ended(tmp_path):
    """As in a container whose first process does not: it stays a zombie, to which signals can be sent."""
    killed = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.DEVNULL)
    wait_until(lambda: Path(f"/proc/{killed.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    left = tmp_path / f".rows.{own_mark().rpartition('-')[0]}-{killed.pid}"
    ours = tmp_path / f".rows.{own_mark()}"
    for path in (left, ours):
        path.touch()
    sweep(tmp_path, ".rows.")
    assert list(tmp_path.iterdir()) == [ours]
    killed.wait()
