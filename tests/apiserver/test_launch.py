"""The launcher, the exit handler and the reaper against a real API server, each with the token of its own account."""

import json
import threading
import time

import pytest

from fipo.errors import LaunchError
from fipo.launch import cluster as api
from fipo.launch.cluster import RUN_LABEL, Cluster, Conflict
from fipo.launch.events import complaints
from fipo.launch.reaper import reap
from fipo.launch.trainjob import TrainJob, run_train_job
from tests.apiserver.control_plane import Refused
from tests.apiserver.platform import make_namespace, moved
from tests.k8s.test_manifests import load
from tests.present import present
from tests.waiting import wait_until

JOB = TrainJob(
    "demo", "train", "ab" * 32, ["python", "-m", "fipo.launch.node"], runtime="fipo-0-2-0", nodes=2, patience_seconds=2
)
TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {"containers": [{"name": "main", "image": "ghcr.io/fipo-rl/fipo:0.2.0"}]},
}


@pytest.fixture
def place(plane, fresh_name, monkeypatch):
    name = fresh_name("launch")
    make_namespace(plane, name, "default-editor")
    # No more is enforced than the tests below need: their pods say little.
    manifests = [
        item for item in moved(load("gpu"), name) if item["kind"] not in ("Namespace", "LimitRange", "ResourceQuota")
    ]
    plane.apply(manifests)
    monkeypatch.setattr(api, "POLL_SECONDS", 0.1)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    return name


@pytest.fixture
def task(plane, place, as_client):
    """Everything that follows is done by the account of the tasks."""
    account = plane.acting_as(place, "default-editor")
    as_client(account)
    return account


def finish(plane, place, kind, message=""):
    """What Trainer writes into the job's status."""
    now = "2026-11-26T12:00:00Z"
    condition = {"type": kind, "status": "True", "reason": f"Jobs{kind}", "message": message, "lastTransitionTime": now}
    status = json.dumps({"status": {"conditions": [condition]}})
    where = ["--namespace", place, "patch", "trainjob", JOB.name, "--subresource=status", "--type=merge", "--patch"]
    plane.kubectl(*where, status)


def made(plane, place):
    return [item["metadata"]["name"] for item in plane.items("--namespace", place, "trainjobs")]


def following(errors):
    """The launcher in a thread of its own; what it raises is kept."""

    def run():
        cluster = Cluster()
        try:
            cluster.create_job(JOB.manifest())
            from fipo.launch.lifecycle import follow

            follow(cluster, JOB.name, JOB.patience_seconds)
        except LaunchError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def pod_of(name, labels, **metadata):
    return {**TEMPLATE, "metadata": {"name": name, "labels": labels, **metadata}}


def node_pod(plane, place, index=0):
    """As the job controller makes it, and kubelet lets it run."""
    labels = {
        "jobset.sigs.k8s.io/jobset-name": JOB.name,
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    name = f"{JOB.name}-node-0-{index}"
    plane.kubectl("--namespace", place, "create", "--filename", "-", text=json.dumps(pod_of(name, labels)))
    running = json.dumps({"status": {"phase": "Running"}})
    plane.kubectl(
        "--namespace", place, "patch", "pod", name, "--subresource=status", "--type=merge", "--patch", running
    )
    return name


def test_a_job_is_made_and_followed_to_its_end(plane, place, task, capsys):
    thread = threading.Thread(target=lambda: (wait_until(lambda: made(plane, place)), finish(plane, place, "Complete")))
    thread.start()
    run_train_job(JOB, Cluster())
    thread.join()
    printed = capsys.readouterr().out
    assert f"TrainJob {place}/{JOB.name} created" in printed and f"TrainJob {JOB.name} complete" in printed


def test_a_job_that_has_failed_says_so(plane, place, task):
    errors: list[LaunchError] = []
    thread = following(errors)
    wait_until(lambda: made(plane, place))
    finish(plane, place, "Failed", "jobset failed due to one or more job failures")
    thread.join(60)
    assert "jobset failed due to one or more job failures" in str(errors[0])


def test_a_name_that_is_taken_and_the_owner_that_is_handed_over(plane, place, task, as_client):
    cluster = Cluster()
    cluster.create_job(JOB.manifest())
    with pytest.raises(Conflict, match="already exists"):
        cluster.create_job(JOB.manifest())
    owner = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": "run",
        "uid": "8c1f3f1c-0000-4000-8000-1",
    }
    cluster.adopt_job(JOB.name, owner)
    (entry,) = plane.get("--namespace", place, "trainjob", JOB.name)["metadata"]["ownerReferences"]
    assert entry["uid"] == owner["uid"]
    as_client(plane.acting_as(place, "fipo-reaper"))  # who may list them
    assert [item["metadata"]["name"] for item in Cluster().jobs("app.kubernetes.io/managed-by=fipo")] == [JOB.name]


def test_a_job_that_is_deleted_is_gone_or_going(plane, place, task):
    cluster = Cluster()
    seen = cluster.create_job(JOB.manifest())
    cluster.adopt_job(
        JOB.name, {"apiVersion": "v1", "kind": "Pod", "name": "another", "uid": "8c1f3f1c-0000-4000-8000-2"}
    )
    with pytest.raises(Conflict):
        cluster.delete_job(JOB.name, seen)
    cluster.delete_job(JOB.name, present(cluster.job(JOB.name)))
    cluster.delete_job(JOB.name)
    cluster.delete_job(JOB.name)
    cluster.delete_job("fipo-that-never-was")
    job = cluster.job(JOB.name)
    assert job is None or job["metadata"]["deletionTimestamp"]


def test_events_of_both_kinds_are_read(plane, place, task):
    """kubelet's and the job controller's on the old API, Trainer's and JobSet's on the new one."""
    cluster = Cluster()
    job = cluster.create_job(JOB.manifest())
    uid, namespace = job["metadata"]["uid"], {"namespace": place}
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1))
    involved = {"kind": "Job", "name": f"{JOB.name}-node-0", "apiVersion": "batch/v1", **namespace}
    old = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "old", **namespace},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": "exceeded quota: fipo",
        "count": 3,
        "firstTimestamp": f"{now}Z",
        "lastTimestamp": f"{now}Z",
        "involvedObject": involved,
    }
    new = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "new", **namespace},
        "type": "Warning",
        "reason": "TrainJobResourcesCreationFailed",
        "note": "no matches for kind",
        "action": "Reconciling",
        "reportingController": "trainer.kubeflow.org/trainjob-controller",
        "reportingInstance": "trainer-0",
        "eventTime": f"{now}.000001Z",
        "series": {"count": 4, "lastObservedTime": f"{now}.000002Z"},
        "regarding": {
            "kind": "TrainJob",
            "name": JOB.name,
            "uid": uid,
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            **namespace,
        },
    }
    fine = {**old, "metadata": {"name": "fine", **namespace}, "type": "Normal"}
    other = {
        **old,
        "metadata": {"name": "other", **namespace},
        "involvedObject": {**involved, "name": "mlflow"},
    }
    for event in (old, new, fine, other):
        plane.kubectl("create", "--filename", "-", text=json.dumps(event))
    assert sorted(map(str, complaints(cluster, job))) == [
        f"Job {JOB.name}-node-0: FailedCreate (3 times): exceeded quota: fipo",
        f"TrainJob {JOB.name}: TrainJobResourcesCreationFailed (4 times): no matches for kind",
    ]


def test_pods_of_a_job_and_their_logs(plane, place, task):
    """Without a kubelet a log is refused; that is as good as none."""
    cluster = Cluster()
    name = node_pod(plane, place)
    (found,) = cluster.pods(f"jobset.sigs.k8s.io/jobset-name={JOB.name}")
    assert found["metadata"]["name"] == name and cluster.pod("nobody") is None
    assert cluster.log(name, "node") == []


def test_a_job_without_pods_is_given_up(plane, place, task):
    """Nobody makes any here: it is deleted after its patience, and the task says why."""
    errors: list[LaunchError] = []
    following(errors).join(60)
    assert "could not start for 2 s (trainjob.patience_seconds)" in str(errors[0])
    assert "is Kubeflow Trainer running?" in str(errors[0])


def test_the_reaper_deletes_what_nobody_waits_for(plane, place, as_client):
    as_client(plane.acting_as(place, "default-editor"))
    gone = {"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "8c1f3f1c-0000-4000-8000-000000000009"}
    Cluster().create_job(JOB.manifest(owner=gone))
    as_client(plane.acting_as(place, "fipo-reaper"))
    assert reap(Cluster()) == {JOB.name: "Pod gone is gone"}
    with pytest.raises(LaunchError, match="is the role from k8s/base bound"):
        Cluster().create_job(JOB.manifest())


def test_the_reaper_waits_for_no_run_that_is_terminated(plane, place, as_client):
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    run = {"metadata": {"name": "run", "labels": {RUN_LABEL: "id"}}, "spec": {"activeDeadlineSeconds": 0}}
    plane.kubectl("--namespace", place, "create", "--filename", "-", text=json.dumps(kind | run))
    uid = plane.get("--namespace", place, "workflow", "run")["metadata"]["uid"]
    as_client(plane.acting_as(place, "default-editor"))
    Cluster().create_job(JOB.manifest(owner={**kind, "name": "run", "uid": uid}))
    as_client(plane.acting_as(place, "fipo-reaper"))
    assert reap(Cluster()) == {JOB.name: "Workflow run is terminated"}
    found = Cluster().workflow_of("id")
    assert found and found["metadata"]["uid"] == uid and Cluster().workflow_of("other") is None


def test_a_runtime_that_is_not_there_is_none(place, task):
    assert Cluster().runtime("fipo-0-2-0") is not None and Cluster().runtime("nonesuch") is None


def test_a_task_may_not_read_secrets(place, task):
    with pytest.raises(Refused, match="Forbidden"):
        task.kubectl("--namespace", place, "get", "secrets")
