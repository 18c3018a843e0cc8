import pytest

from fipo.launch.cluster import Cluster
from fipo.launch.reaper import delete_jobs_of_this_run, reap
from fipo.launch.trainjob import TrainJob


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
    return {"metadata": {"name": name, "uid": uid}, "status": status}


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
    assert api.used == api.granted, "the role grants no more than is used"


def test_a_pod_that_ended_no_longer_waits(api, start):
    name = start("pod", "Pod")
    api.pods["pod"] = owner("pod", phase="Failed")
    assert reap(Cluster()) == {name: "Pod pod has ended: Failed"}


def test_jobs_that_ended_or_have_no_owner_stay(api, start):
    done = start("done")
    api.finish(done, "Complete")
    api.jobs["fipo-mine"] = TrainJob("mine", "train", "f", [], runtime="fipo").manifest()
    assert reap(Cluster()) == {}


@pytest.fixture
def finish_pod(api, monkeypatch):
    """The pod of the exit handler of the run `this`."""
    api.act_as("fipo-launcher")
    monkeypatch.setenv("KFP_POD_NAME", "finish")
    workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "this", "uid": "this-run"}
    api.pods["finish"] = owner("finish", phase="Running")
    api.pods["finish"]["metadata"]["ownerReferences"] = [{**workflow, "controller": True}]


def test_the_exit_handler_takes_along_the_jobs_that_its_run_left(api, start, finish_pod):
    left, done, other = start("left", uid="this-run"), start("done", uid="this-run"), start("other", uid="that-run")
    api.finish(done, "Complete")
    api.jobs["fipo-mine"] = TrainJob("mine", "train", "f", [], runtime="fipo").manifest()
    assert delete_jobs_of_this_run() == [left]
    assert api.jobs.keys() == {done, other, "fipo-mine"}, "results, other runs' jobs and jobs of nobody stay"


def test_the_exit_handler_of_a_local_run_has_no_cluster(monkeypatch):
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert delete_jobs_of_this_run() == []


def test_jobs_of_others_are_not_seen(api):
    api.jobs["theirs"] = {"metadata": {"name": "theirs", "labels": {}, "ownerReferences": []}}
    api.jobs["theirs"]["metadata"]["ownerReferences"] = [{"kind": "Workflow", "name": "gone", "uid": "x"}]
    assert reap(Cluster()) == {}
    assert "theirs" in api.jobs
