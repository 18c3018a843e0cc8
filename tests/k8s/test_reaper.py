import pytest

from fipo.launch.cluster import Cluster
from fipo.launch.reaper import reap
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


def test_jobs_of_others_are_not_seen(api):
    api.jobs["theirs"] = {"metadata": {"name": "theirs", "labels": {}, "ownerReferences": []}}
    api.jobs["theirs"]["metadata"]["ownerReferences"] = [{"kind": "Workflow", "name": "gone", "uid": "x"}]
    assert reap(Cluster()) == {}
    assert "theirs" in api.jobs
