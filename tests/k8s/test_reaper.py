import sys

import pytest

from fipo.launch.cluster import Cluster
from fipo.launch.reaper import close, reap
from fipo.launch.trainjob import TrainJob
from fipo.tracking.client import MlflowRun, RunIdentity, connect, find_runs
from fipo.tracking.runs import link_pipeline_run, parent_run, reconcile
from fipo_kfp.pipelines.__main__ import main


@pytest.fixture(autouse=True)
def role(api):
    api.act_as("fipo-reaper")


@pytest.fixture
def start(api):
    """Put a running job of an owner into the cluster."""

    def start(run, kind="Workflow", uid="u"):
        job = TrainJob(run, "train", "f", [], runtime="fipo")
        api.jobs[job.name] = job.manifest(owner={"apiVersion": "v1", "kind": kind, "name": run, "uid": uid})
        return job.name

    return start


def owner(name, uid="u", **status):
    return {"metadata": {"name": name, "uid": uid, "labels": {"pipeline/runid": f"id-{name}"}}, "status": status}


TERMINATED = {"spec": {"activeDeadlineSeconds": 0}}
ENDED = {"finishedAt": "2026-11-23T12:00:00Z"}


def test_only_jobs_that_nobody_waits_for_are_deleted(api, start):
    gone, ended, again = start("gone"), start("ended"), start("again")
    kept = {start("running"), start("pod", "Pod")}
    api.workflows["ended"] = owner("ended", phase="Failed", finishedAt="2026-11-23T12:00:00Z")
    api.workflows["again"] = owner("again", uid="another run of that name", phase="Running")
    api.workflows["running"] = owner("running", phase="Running")
    api.pods["pod"] = owner("pod", phase="Running")
    reaped = reap(Cluster())
    assert reaped == {
        gone: "Workflow gone is gone",
        ended: "Workflow ended has ended: Failed",
        again: "Workflow again is gone",
    }
    assert api.jobs.keys() == kept


def test_a_terminated_run_is_not_waited_for(api, start):
    """Argo takes its time to end the pods, and the exit handler may never run."""
    name = start("stopped")
    api.workflows["stopped"] = owner("stopped", phase="Running") | TERMINATED
    assert reap(Cluster()) == {name: "Workflow stopped is terminated"}


def test_a_pod_that_ended_no_longer_waits(api, start):
    name = start("pod", "Pod")
    api.pods["pod"] = owner("pod", phase="Failed")
    assert reap(Cluster()) == {name: "Pod pod has ended: Failed"}


@pytest.mark.parametrize("changes", [{"resourceVersion": "2"}, {"uid": "another of that name"}])
def test_a_job_that_another_run_took_over_meanwhile_stays(api, start, monkeypatch, changes):
    name, look = start("stopped"), Cluster.workflow
    api.workflows["stopped"] = owner("stopped", phase="Running") | TERMINATED

    def meanwhile(cluster, workflow):
        api.jobs[name]["metadata"] |= changes
        return look(cluster, workflow)

    monkeypatch.setattr(Cluster, "workflow", meanwhile)
    assert reap(Cluster()) == {} and name in api.jobs
    assert reap(Cluster()) == {name: "Workflow stopped is terminated"} and api.jobs == {}


def test_jobs_that_ended_or_have_no_owner_stay(api, start):
    done = start("done")
    api.finish(done, "Complete")
    api.jobs["fipo-mine"] = TrainJob("mine", "train", "f", [], runtime="fipo").manifest()
    assert reap(Cluster()) == {}


def test_jobs_of_others_are_not_seen(api):
    api.jobs["theirs"] = {"metadata": {"name": "theirs", "labels": {}, "ownerReferences": []}}
    api.jobs["theirs"]["metadata"]["ownerReferences"] = [{"kind": "Workflow", "name": "gone", "uid": "x"}]
    assert reap(Cluster()) == {}
    assert "theirs" in api.jobs


@pytest.fixture
def mlflow(tmp_path):
    """A store that has the run of each of these names open, each with a step that runs."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def begin(*names):
        for name in names:
            parent = parent_run(uri, experiment="fipo/pipeline", run_name=name, run_key=name)
            link_pipeline_run(parent, run_id=f"id-{name}", page="")
            MlflowRun(RunIdentity(uri, "fipo/rl", f"{name}-rl", f"{name}/rl", parent=parent))
        return uri

    return begin


def states(uri):
    """Status of each run, the steps' too, by its name."""
    return {run.info.run_name: run.info.status for run in find_runs(connect(uri))}


def test_a_run_that_could_not_close_itself_in_mlflow_is_closed_as_what_it_ended(api, mlflow):
    uri = mlflow("stopped", "failed", "good", "running", "elsewhere")
    api.workflows["stopped"] = owner("stopped", phase="Running") | TERMINATED
    api.workflows["failed"] = owner("failed", phase="Error", **ENDED)
    api.workflows["good"] = owner("good", phase="Succeeded", **ENDED)
    api.workflows["running"] = owner("running", phase="Running", finishedAt=None)
    assert close(Cluster(), uri) == {"stopped": "CANCELED", "failed": "FAILED", "good": "SUCCEEDED"}
    ends = {"stopped": "KILLED", "failed": "FAILED", "good": "FINISHED"}
    steps = {f"{name}-rl": "KILLED" for name in ends}
    still = dict.fromkeys(["running", "running-rl", "elsewhere", "elsewhere-rl"], "RUNNING")
    assert states(uri) == ends | steps | still, "a run of another namespace that shares MLflow is nobody's here"
    assert close(Cluster(), uri) == {}


def test_a_run_that_is_continued_is_not_taken_for_the_one_that_was_terminated(api, mlflow):
    uri = mlflow("again")
    api.workflows["first"] = owner("again", phase="Running") | TERMINATED
    api.workflows["second"] = owner("second", phase="Running")
    parent = parent_run(uri, experiment="fipo/pipeline", run_name="again", run_key="again")
    link_pipeline_run(parent, run_id="id-second", page="")
    assert close(Cluster(), uri) == {}


def test_a_run_that_is_submitted_again_is_open_until_it_ends(api, mlflow):
    uri = mlflow("again")
    reconcile(uri, run_key="again", status="FAILED")
    assert states(uri) == {"again": "FAILED", "again-rl": "KILLED"}
    parent = parent_run(uri, experiment="fipo/pipeline", run_name="again", run_key="again")
    link_pipeline_run(parent, run_id="id-second", page="")
    MlflowRun(RunIdentity(uri, "fipo/rl", "again-rl", "again/rl", parent=parent)).begin()
    assert states(uri) == {"again": "RUNNING", "again-rl": "RUNNING"}
    api.workflows["second"] = owner("second", phase="Running") | TERMINATED
    assert close(Cluster(), uri) == {"again": "CANCELED"}
    assert states(uri) == {"again": "KILLED", "again-rl": "KILLED"}


def test_without_mlflow_jobs_are_reaped_all_the_same(api, start, caplog):
    assert close(Cluster(), "http://127.0.0.1:9") == {}
    assert "which pipeline runs are open" in caplog.text


def test_the_reaper_goes_round_with_no_more_than_its_role_grants(api, start, mlflow, monkeypatch, capsys):
    uri = mlflow("run")
    monkeypatch.setenv("FIPO_SETTINGS", f"tracking.uri={uri}")
    name = start("run")
    start("pod", "Pod")
    api.workflows["run"] = owner("run", phase="Running")
    api.pods["pod"] = owner("pod", phase="Running")
    rounds = iter([lambda: api.workflows["run"].update(TERMINATED), sys.exit])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("fipo_kfp.pipelines.__main__.time.sleep", lambda seconds: next(rounds)())
    with pytest.raises(SystemExit):
        main(["reap"])
    assert name not in api.jobs and states(uri)["run"] == "KILLED"
    assert capsys.readouterr().out.splitlines() == [
        f"deleted TrainJob {name}: Workflow run is terminated",
        "closed run run in MLflow: CANCELED",
    ]
    assert api.used == api.granted, "the role grants no more than is used"
