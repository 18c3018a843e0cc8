"""TrainJobs from the launcher to their end, by the real controllers of Trainer, JobSet and Kubernetes.

The launcher's own code runs with the token of the tasks' account, in a namespace with the whole overlay: its policies,
its quota, Pod Security. No container runs: a kubelet that only pretends says how each pod fares; see controllers.py.
"""

import copy
import json
import threading
import time

import pytest

from fipo.errors import LaunchError
from fipo.launch import cluster as api
from fipo.launch.cluster import Cluster
from fipo.launch.reaper import reap
from fipo.launch.trainjob import run_train_job
from tests.apiserver.control_plane import NEEDED, control_plane, missing
from tests.apiserver.controllers import PROGRAMS, Kubelet, controllers, lacks_installations
from tests.apiserver.jobs import train_job
from tests.apiserver.platform import install_kinds, make_namespace, moved
from tests.k8s.test_manifests import load
from tests.waiting import wait_until

SMALL = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    if why := missing(*NEEDED, *PROGRAMS) or lacks_installations():
        pytest.skip(why)
    with control_plane(tmp_path_factory.mktemp("live")) as plane:
        install_kinds(plane)
        with controllers(plane):
            yield plane


@pytest.fixture
def place(live, fresh_name, monkeypatch, as_client):
    """A namespace with the overlay gpu, its volume bound; everything is done by the account of the tasks."""
    name = fresh_name("live")
    live.apply(moved(load("gpu"), name))
    make_namespace(live, name, "default-editor")
    live.kubectl("--namespace", name, "create", "secret", "generic", "fipo-rollouts", "--from-literal=token=t")
    disk = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "4Ti"},
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": f"/tmp/{name}"},
            "claimRef": {"namespace": name, "name": "fipo-runs"},
        },
    }
    live.apply([disk])
    wait_until(lambda: live.get("--namespace", name, "pvc", "fipo-runs")["status"].get("phase") == "Bound")
    wait_until(lambda: live.get("--namespace", name, "resourcequota", "fipo").get("status", {}).get("hard"))
    monkeypatch.setattr(api, "POLL_SECONDS", 0.3)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    as_client(live.acting_as(name, "default-editor"))
    yield name
    live.kubectl("--namespace", name, "delete", "trainjobs", "--all", "--wait=false")


@pytest.fixture
def kubelet(live, place):
    with Kubelet(live, place) as kubelet:
        yield kubelet


def job(**more):
    return train_job(**{"queue": "", "node_selector": {}, "resources": SMALL, "patience_seconds": 20, **more})


def pods(live, place):
    return live.items("--namespace", place, "pods", "--selector=app.kubernetes.io/component=training")


def gone(live, place, *kinds):
    return all(live.items("--namespace", place, kind) == [] for kind in kinds)


def test_a_job_runs_to_its_end_and_leaves_nothing(live, place, kubelet, capsys):
    wanted = job()
    kubelet.lives[f"{wanted.name}-node"] = [0, 0]
    run_train_job(wanted, Cluster())
    printed = capsys.readouterr().out
    assert "created" in printed and "complete" in printed and "Warning" not in printed, printed
    made = pods(live, place)
    assert len(made) == 2
    for pod in made:
        spec = pod["spec"]
        assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("fipo-trainer", "fipo-training")
        assert {"name": "fipo-runs", "persistentVolumeClaim": {"claimName": "fipo-runs"}} in spec["volumes"]
        names = {entry["name"] for entry in spec["containers"][0]["env"]}
        assert {"PET_NNODES", "PET_MASTER_ADDR", "PET_NODE_RANK", "FIPO_SETTINGS", "AWS_ACCESS_KEY_ID"} <= names
        assert not [volume for volume in spec["volumes"] if "projected" in volume], "no token of the API"
    Cluster().delete_job(wanted.name)
    wait_until(lambda: gone(live, place, "trainjobs", "jobsets", "jobs"))


def test_wrong_settings_end_a_job_at_once(live, place, kubelet):
    """Exit code 2: no pod is started again."""
    wanted = job()
    kubelet.lives[f"{wanted.name}-node"] = [2]
    with pytest.raises(LaunchError, match=r"TrainJob .* failed"):
        run_train_job(wanted, Cluster())
    assert live.get("--namespace", place, "jobset", wanted.name)["status"].get("restarts", 0) == 0


def test_a_crash_starts_all_pods_again(live, place, kubelet):
    wanted = job()
    kubelet.lives[f"{wanted.name}-node-0-0"] = [1, 0]
    kubelet.lives[f"{wanted.name}-node-0-1"] = [0, 0]
    run_train_job(wanted, Cluster())
    assert live.get("--namespace", place, "jobset", wanted.name)["status"]["restarts"] == 1


def test_rollout_servers_end_with_the_trainer(live, place, kubelet):
    wanted = job(runtime="fipo-rollouts-0-2-0", rollout_servers=2, settings="/runs/demo/config.yaml", nodes=1)
    kubelet.lives[f"{wanted.name}-node"] = [0]
    run_train_job(wanted, Cluster())
    made = {pod["metadata"]["labels"]["jobset.sigs.k8s.io/replicatedjob-name"] for pod in pods(live, place)}
    assert "node" in made
    wait_until(lambda: not [pod for pod in pods(live, place) if pod["status"].get("phase") == "Running"])


def test_a_quota_that_is_too_small_is_told_and_given_up(live, place, kubelet, capsys):
    hard = json.dumps({"spec": {"hard": {"requests.cpu": "2"}}})
    live.kubectl("--namespace", place, "patch", "resourcequota", "fipo", "--type=merge", "--patch", hard)
    wait_until(lambda: live.get("--namespace", place, "resourcequota", "fipo")["status"]["hard"]["requests.cpu"] == "2")
    with pytest.raises(LaunchError, match=r"(?s)exceeded quota: fipo.*remedy: see `kubectl describe resourcequota"):
        run_train_job(job(nodes=4, patience_seconds=5), Cluster())
    assert "FailedCreate" in capsys.readouterr().out
    wait_until(lambda: gone(live, place, "trainjobs", "jobsets", "jobs"))


def with_runtime(live, place, change):
    """A runtime of another name, changed."""
    runtime = copy.deepcopy(live.get("--namespace", place, "trainingruntime", "fipo-0-2-0"))
    runtime["metadata"] = {"name": "fipo-changed", "namespace": place, "labels": runtime["metadata"]["labels"]}
    change(runtime["spec"]["template"]["spec"])
    live.apply([runtime], "--server-side")


def test_pod_security_that_refuses_the_pods_is_told_and_given_up(live, place):
    def change(spec):
        (node,) = spec["replicatedJobs"]
        del node["template"]["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]

    with_runtime(live, place, change)
    with pytest.raises(
        LaunchError, match=r"(?s)violates PodSecurity.*remedy: the pods break the namespace's Pod Security"
    ):
        run_train_job(job(runtime="fipo-changed", patience_seconds=3), Cluster())


def test_what_jobset_s_webhook_refuses_is_told_and_given_up(live, place):
    """The first wall of a real cluster: a hyphen in the name of a rule."""

    def change(spec):
        spec["failurePolicy"]["rules"][0]["name"] = "not-worth-a-restart"

    with_runtime(live, place, change)
    with pytest.raises(LaunchError, match=r"(?s)invalid failure policy rule name.*remedy: the cluster refuses what"):
        run_train_job(job(runtime="fipo-changed", patience_seconds=3), Cluster())


def test_a_secret_that_is_not_there_does_not_keep_the_pods_from_being_made(live, place, kubelet):
    """Kubelet says so; the launcher waits for nothing else. Here the pods of the servers alone name a secret."""
    wanted = job(runtime="fipo-rollouts-0-2-0", rollout_servers=2, settings="/runs/demo/config.yaml", nodes=1)
    kubelet.lives[f"{wanted.name}-node"] = [0]
    live.kubectl("--namespace", place, "delete", "secret", "fipo-rollouts")
    run_train_job(wanted, Cluster())


def test_a_node_without_room_is_waited_for(live, place, capsys):
    """No patience runs out over it: room may come."""
    wanted = job(node_selector={"accelerator": "h200"}, patience_seconds=2)
    thread = threading.Thread(target=lambda: (time.sleep(8), Cluster().delete_job(wanted.name)), daemon=True)
    thread.start()
    with pytest.raises(LaunchError, match="was deleted by someone else"):
        run_train_job(wanted, Cluster())
    assert "Unschedulable" in capsys.readouterr().out


def test_a_queued_job_is_waited_for(live, place, capsys):
    """As Kueue holds it back: suspended."""
    wanted = job(patience_seconds=2)
    manifest = wanted.manifest()
    manifest["spec"]["suspend"] = True
    Cluster().create_job(manifest)
    thread = threading.Thread(target=lambda: (time.sleep(8), Cluster().delete_job(wanted.name)), daemon=True)
    thread.start()
    with pytest.raises(LaunchError, match="was deleted by someone else"):
        run_train_job(wanted, Cluster())
    assert "suspended" in capsys.readouterr().out.lower()


def test_a_run_s_jobs_go_with_its_workflow(live, place, kubelet):
    """The garbage collector follows the owner down to the pods."""
    flow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "run", "namespace": place}}
    live.kubectl("create", "--filename", "-", text=json.dumps({**flow, "spec": {}}))
    uid = live.get("--namespace", place, "workflow", "run")["metadata"]["uid"]
    Cluster().create_job(
        job().manifest(owner={"apiVersion": flow["apiVersion"], "kind": "Workflow", "name": "run", "uid": uid})
    )
    wait_until(lambda: len(pods(live, place)) == 2)
    live.kubectl("--namespace", place, "delete", "workflow", "run")
    wait_until(lambda: gone(live, place, "trainjobs", "jobsets", "jobs") and pods(live, place) == [])


def test_the_reaper_leaves_nothing_of_an_orphan(live, place, kubelet, as_client):
    wanted = job()
    dead = {"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "8c1f3f1c-0000-4000-8000-000000000009"}
    Cluster().create_job(wanted.manifest(owner=None))
    Cluster().adopt_job(wanted.name, dead)
    as_client(live.acting_as(place, "fipo-reaper"))
    try:
        assert reap(Cluster()) in ({wanted.name: "Pod gone is gone"}, {})  # the garbage collector may be quicker
    finally:
        wait_until(lambda: gone(live, place, "trainjobs", "jobsets", "jobs") and pods(live, place) == [])


def test_a_runtime_that_jobs_use_is_not_changed(live, place):
    """Its policy is fixed: another version brings another name, see docs/upgrade.md."""
    change = json.dumps({"spec": {"template": {"spec": {"failurePolicy": {"maxRestarts": 3}}}}})
    said = live.kubectl(
        "--namespace", place, "patch", "trainingruntime", "fipo-0-2-0", "--type=merge", "--patch", change, check=False
    )
    assert "field is immutable" in said


def test_a_namespace_that_is_deleted_goes(live, place, kubelet):
    """With a running job, its volume and everything of the overlay."""
    Cluster().create_job(job().manifest())
    wait_until(lambda: len(pods(live, place)) == 2)
    live.kubectl("delete", "namespace", place, "--wait=false")
    wait_until(lambda: "NotFound" in live.kubectl("get", "namespace", place, check=False), 180)
