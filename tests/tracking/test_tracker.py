"""One run against a real SQLite database."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from multiprocessing import get_context
from pathlib import Path

import pytest

import fipo
from fipo.errors import Interrupted, TrackingError
from fipo.tracking import Tracker, parent_run, read_journal, reconcile, replay, replay_left
from fipo.tracking.client import NOTE, connect, find_or_create
from tests.tracking.found import PATIENT, runs_of
from tests.waiting import wait_until


@pytest.fixture
def run(request, tracking_uri, tmp_path):
    """Open the tracker of this test's run, which `run.read()` then finds."""

    class Run:
        experiment = request.node.name

        def open(self, key="key", **options):
            options = {"experiment": self.experiment, "journal": tmp_path / "journal.jsonl", **PATIENT, **options}
            return Tracker.open(
                tracking_uri, run_name="name", run_key=key, artifact_root=(tmp_path / "objects").as_uri(), **options
            )

        def all(self):
            client = connect(tracking_uri)
            return runs_of(client, self.experiment)

        def read(self):
            (found,) = self.all()
            return found

        def points(self, metric):
            history = connect(tracking_uri).get_metric_history(self.read().info.run_id, metric)
            return [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)]

        def artifacts(self):
            return Path(self.read().info.artifact_uri.removeprefix("file://"))

    return Run()


def test_everything_logged_is_in_mlflow_at_the_end(run, tmp_path):
    (tmp_path / "report.html").write_text("<p>")
    with run.open() as tracker:
        tracker.params({"train.learning_rate": 1e-6, "sizes": [1, 2], "name": "x", "none": None})
        for step in range(3):
            tracker.log({"train/loss": step / 2, "rollout/accuracy": math.nan}, step)
        tracker.tags({"code": "abc"})
        tracker.table([{"prompt": "1 +", "reward": 1.0}], "tables/samples.json")
        tracker.artifact(tmp_path / "report.html", "report")
        tracker.dataset("sums", "ab" * 32, "file:///data")
    found = run.read()
    assert found.info.status == "FINISHED"
    assert run.points("train/loss") == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert [step for step, value in run.points("rollout/accuracy") if math.isnan(value)] == [0, 1, 2]
    assert found.data.params == {
        "train.learning_rate": "1e-06", "sizes": "[1, 2]", "name": "x", "none": "null",
    }  # fmt: skip
    assert found.data.tags["code"] == "abc"
    assert found.data.tags["fipo.version"] == fipo.__version__
    assert found.data.metrics["system/system_memory_usage_percentage"] > 0
    assert (run.artifacts() / "report/report.html").read_text() == "<p>"
    table = json.loads((run.artifacts() / "tables/samples.json").read_text())
    assert table == {"columns": ["prompt", "reward"], "data": [["1 +", 1.0]]}
    assert json.loads(found.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/samples.json", "type": "table"}]
    (used,) = found.inputs.dataset_inputs
    assert (used.dataset.name, json.loads(used.dataset.source)["sha256"]) == ("sums", "ab" * 32)
    assert read_journal(run.artifacts() / "journal.jsonl")[:3] == read_journal(tmp_path / "journal.jsonl")[:3]


def test_figures(run):
    import matplotlib.pyplot as plt

    with run.open() as tracker:
        tracker.figure(plt.figure(), "figures/empty.png")
    assert (run.artifacts() / "figures/empty.png").read_bytes().startswith(b"\x89PNG")


def test_a_restarted_step_continues_its_run_and_repeats_no_point(run):
    with pytest.raises(RuntimeError), run.open() as tracker:
        tracker.params({"a": 1, "b": 2})
        tracker.log({"train/loss": 0.1}, 1)
        tracker.log({"train/loss": 0.2}, 2)
        raise RuntimeError
    assert run.read().info.status == "FAILED"
    with run.open() as tracker:
        tracker.params({"a": 1, "b": 3, "c": 4})
        tracker.log({"train/loss": 0.3}, 2)  # from the checkpoint of step 1
        tracker.log({"train/loss": 0.4}, 3)
    assert run.points("train/loss") == [(1, 0.1), (2, 0.2), (3, 0.4)]
    found = run.read()
    assert found.info.status == "FINISHED"
    assert found.data.params == {"a": "1", "b": "2", "c": "4"}
    assert json.loads(found.data.tags["fipo.changed_params"]) == {"b": "3"}


def test_one_journal_may_serve_several_runs(run):
    with run.open("short") as tracker:
        tracker.log({"train/loss": 0.1}, 1)
    with run.open("long") as tracker:
        tracker.log({"train/loss": 0.2}, 1)
    assert {r.data.tags["fipo.run_key"]: r.data.metrics["train/loss"] for r in run.all()} == {"short": 0.1, "long": 0.2}


def test_replaying_the_whole_journal_changes_nothing(run, tmp_path):
    with run.open() as tracker:
        tracker.log({"train/loss": 0.5, "rollout/accuracy": math.nan}, 0)
        tracker.params({"a": 1})
        tracker.table([{"a": 1}], "table.json")
        tracker.dataset("d", "0" * 64, "file:///d")
    before = run.read()
    (tmp_path / "journal.offset").write_text("0")
    assert replay(tmp_path / "journal.jsonl")
    assert len(run.points("train/loss")) == len(run.points("rollout/accuracy")) == 1
    assert repr(run.read().to_dictionary()) == repr(before.to_dictionary())


def test_what_an_outage_left_behind_is_sent_by_the_next_occasion(run, tmp_path):
    journal = tmp_path / "train" / "abc" / "journal.jsonl"
    with run.open(journal=journal) as tracker:
        tracker.log({"train/loss": 0.5}, 0)
    assert replay_left(tmp_path) == []
    client = connect(tracker._drain.runs["key"].identity.tracking_uri)
    client.delete_run(run.read().info.run_id)  # as if nothing had arrived
    journal.with_suffix(".offset").write_text("0")
    assert replay_left(tmp_path) == [journal]
    assert run.points("train/loss") == [(0, 0.5)]
    assert run.read().info.status == "FINISHED"
    assert replay_left(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("stop"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (ValueError("x"), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_the_status_tells_how_the_step_ended(run, error, status):
    with pytest.raises(type(error)), run.open():
        raise error
    assert run.read().info.status == status


def test_what_mlflow_refuses_for_good_holds_nothing_up(run, caplog):
    with run.open() as tracker:
        tracker.tags({"k" * 300: "longer than MLflow allows"})
        tracker.log({"train/loss": 0.5}, 0)
    assert run.points("train/loss") == [(0, 0.5)]
    assert "MLflow refuses a record" in caplog.text


def test_undefined_metrics_are_refused(run):
    with run.open() as tracker, pytest.raises(ValueError, match=r"'train/lost' is not defined.*metric_names\.py"):
        tracker.log({"train/lost": 1.0}, 0)


def test_a_full_disk_stops_the_step_and_leaves_a_sound_journal(run, tmp_path):
    with run.open() as tracker:
        tracker.log({"train/loss": 0.5}, 0)
        real, full = tracker._journal._descriptor, os.open("/dev/full", os.O_WRONLY)
        tracker._journal._descriptor = full
        with pytest.raises(TrackingError, match="No space left on device"):
            tracker.log({"train/loss": 0.5}, 1)
        tracker._journal._descriptor = real
        os.close(full)
        tracker.log({"train/loss": 0.25}, 2)
    assert run.points("train/loss") == [(0, 0.5), (2, 0.25)]


def test_however_many_params_there_are_they_all_arrive(run):
    """MLflow takes a hundred in one request."""
    with run.open() as tracker:
        tracker.params({f"setting.{number}": number for number in range(250)})
    params = run.read().data.params
    assert params == {f"setting.{number}": str(number) for number in range(250)}


CHILD = """
    import os, sys, time
    from pathlib import Path
    from fipo.tracking import Tracker, parent_run
    uri, folder, experiment, how = sys.argv[1:]
    parent = parent_run(uri, experiment=experiment, run_name="pipeline", run_key="p/" + experiment)
    with Tracker.open(uri, experiment=experiment + "/rl", run_name="rl", run_key="rl/" + experiment, parent=parent,
                      journal=Path(folder) / "journal.jsonl", artifact_root=Path(folder).as_uri()) as tracker:
        tracker.log_final({"eval/sums/avg_at_k": 0.5})
        assert tracker.run_id
        while not tracker.drained:
            time.sleep(0.01)
        print("ready", flush=True)
        if how == "die":
            os.kill(os.getpid(), 9)
        time.sleep(60)
"""


def start(tracking_uri, folder, experiment, how):
    command = [sys.executable, "-c", textwrap.dedent(CHILD), tracking_uri, str(folder), experiment, how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)


def test_sigterm_ends_the_run_as_killed(tracking_uri, tmp_path):
    child = start(tracking_uri, tmp_path, "sigterm", "wait")
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    child.wait()
    client = connect(tracking_uri)
    (found,) = runs_of(client, "sigterm/rl")
    assert found.info.status == "KILLED"
    (parent,) = runs_of(client, "sigterm")
    assert parent.data.metrics == {"eval/sums/avg_at_k": 0.5}
    assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_scores_are_on_the_parent_once_however_often_the_step_is_killed(tracking_uri, tmp_path):
    for _ in range(2):
        assert start(tracking_uri, tmp_path, "twice", "die").wait() == -signal.SIGKILL
    client = connect(tracking_uri)
    (parent,) = runs_of(client, "twice")
    assert [point.value for point in client.get_metric_history(parent.info.run_id, "eval/sums/avg_at_k")] == [0.5]


def test_reconcile_closes_what_sigkill_left_open(tracking_uri, tmp_path):
    child = start(tracking_uri, tmp_path, "sigkill", "die")
    assert child.wait() == -signal.SIGKILL
    client = connect(tracking_uri)
    (found,) = runs_of(client, "sigkill/rl")
    assert found.info.status == "RUNNING"
    assert reconcile(tracking_uri, run_key="p/sigkill", status="FAILED") == [found.info.run_id]
    assert client.get_run(found.info.run_id).info.status == "KILLED"
    assert client.get_run(found.data.tags["mlflow.parentRunId"]).info.status == "FAILED"
    assert reconcile(tracking_uri, run_key="p/sigkill", status="FAILED") == []


@pytest.mark.parametrize(
    ("state", "status"),
    [
        # What the exit handler is handed on a cluster: of a good run, one from the cache, one that was terminated, ...
        ("COMPLETE", "FINISHED"), ("CACHED", "FINISHED"), ("RUNNING", "KILLED"), ("CANCELED", "KILLED"),
        ("FAILED", "FAILED"), ("NEW", "KILLED"),
        # by `kfp.local`,
        ("SUCCEEDED", "FINISHED"), ("SUCCESS", "FINISHED"), ("FAILURE", "FAILED"),
        # what the API calls a run's states,
        ("SKIPPED", "FINISHED"), ("PENDING", "KILLED"), ("CANCELING", "KILLED"), ("PAUSED", "KILLED"),
        ("CANCELLED", "KILLED"),
        # and words that say nothing of how it ended.
        ("UNKNOWN", "FAILED"), ("RUNTIME_STATE_UNSPECIFIED", "FAILED"), ("DISSOLVED", "FAILED"), ("", "FAILED"),
    ],
)  # fmt: skip
def test_every_state_of_kubeflow_ends_the_pipelines_run(ended_as, state, status, caplog):
    run = ended_as(state)
    assert run.info.status == status
    assert run.info.end_time
    assert run.data.tags["fipo.pipeline_state"] == (state or "UNKNOWN")
    known = state not in ("UNKNOWN", "RUNTIME_STATE_UNSPECIFIED", "DISSOLVED", "")
    assert known != (f"{state!r}, a state that fipo does not know" in caplog.text)


@pytest.fixture
def ended_as(tracking_uri, request):
    """The pipeline's run after Kubeflow said how it ended."""

    def end(state):
        client, key = connect(tracking_uri), request.node.name
        identity = parent_run(tracking_uri, experiment="states", run_name="p", run_key=key)
        run_id = find_or_create(client, identity, "")[1]
        assert reconcile(tracking_uri, run_key=key, status=state) == []
        return client.get_run(run_id)

    return end


def test_a_database_is_made_by_several_processes_at_once(tmp_path):
    """As when two runs begin in an empty folder; MLflow alone leaves the tables half made, and is broken for good."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with get_context("fork").Pool(4) as pool:
        assert pool.map(_experiments, [uri] * 4, chunksize=1) == [["Default"]] * 4


def _experiments(uri):
    return [experiment.name for experiment in connect(uri).search_experiments()]


def test_kfps_run_of_the_pipeline_is_the_parent(run, tracking_uri, monkeypatch):
    client = connect(tracking_uri)
    experiment = client.create_experiment("kfp")
    pipeline = client.create_run(experiment).info.run_id
    task = client.create_run(experiment, tags={"mlflow.parentRunId": pipeline}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    ours = parent_run(tracking_uri, experiment="unused", run_name="p", run_key="p")
    with run.open(parent=ours) as tracker:
        assert tracker.parent_run_id == pipeline
    assert run.read().data.tags["mlflow.parentRunId"] == pipeline


def test_of_two_runs_with_one_key_the_first_counts(run, tracking_uri):
    """A request that timed out here and succeeded there can leave a second run."""
    client = connect(tracking_uri)
    experiment = client.create_experiment(run.experiment)
    first, _ = [client.create_run(experiment, start, {"fipo.run_key": "key"}).info.run_id for start in (1000, 2000)]
    with run.open() as tracker:
        assert tracker.run_id == first
    assert run.read().info.run_id == first


def test_a_run_that_was_deleted_and_restored_has_its_points(run, tracking_uri):
    """While it is deleted they wait, as in an outage."""
    client = connect(tracking_uri)
    with run.open() as tracker:
        tracker.log({"train/loss": 1.0}, step=1)
        wait_until(lambda: tracker.drained)
        client.delete_run(tracker.run_id)
        tracker.log({"train/loss": 2.0}, step=2)
        wait_until(lambda: tracker._drain.error)
        assert "deleted in MLflow: restore it" in str(tracker._drain.error) and not tracker.drained
        client.restore_run(tracker.run_id)
        tracker.log({"train/loss": 3.0}, step=3)
    assert run.points("train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_run_that_was_deleted_for_good_begins_with_all_its_points(run, tracking_uri):
    client = connect(tracking_uri)
    with run.open() as tracker:
        tracker.log({"train/loss": 1.0}, step=1)
    first = run.read().info.run_id
    client.delete_run(first)
    with run.open() as tracker:
        tracker.log({"train/loss": 2.0}, step=2)
    assert run.read().info.run_id != first and run.points("train/loss") == [(1, 1.0), (2, 2.0)]
    client.restore_run(first)  # two have the key now: the first counts, and lacks what the second got
    with run.open() as tracker:
        tracker.log({"train/loss": 3.0}, step=3)
    assert run.read().info.run_id == first and run.points("train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_page_that_grows_is_the_parents(run, tracking_uri, tmp_path, monkeypatch):
    monkeypatch.setattr("fipo.tracking.drain._PAGE_SECONDS", 0.0)
    page = tmp_path / "report.html"
    page.write_text("first")
    parent = parent_run(
        tracking_uri, experiment="whole", run_name="p", run_key="p", artifact_root=(tmp_path / "objects").as_uri()
    )
    with run.open(parent=parent, page=page) as tracker:
        shown = tmp_path / "objects" / "whole" / tracker.parent_run_id / "artifacts" / "report.html"
        wait_until(lambda: shown.is_file() and shown.read_text() == "first")
        page.write_text("second")
        wait_until(lambda: shown.read_text() == "second")
        tracker.describe("What came of it.", to_parent=True)
    client = connect(tracking_uri)
    assert client.get_run(tracker.parent_run_id).data.tags[NOTE] == "What came of it."
    whole = client.get_experiment_by_name("whole")
    assert whole and whole.tags[NOTE].startswith("Whole runs: settings")
