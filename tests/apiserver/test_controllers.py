"""TrainJobs from the launcher to their end, by the real controllers of Trainer, JobSet and Kubernetes.

The launcher's own code runs with the token of the tasks' account, in a namespace with the whole overlay: its policies,
its quota, Pod Security. No container runs: a kubelet that only pretends says how each pod fares; see controllers.py.
"""

import copy
import itertools
import json
import threading
from dataclasses import replace

import pytest

from fipo.errors import LaunchError
from fipo.launch import cluster as api
from fipo.launch.cluster import Cluster
from fipo.launch.events import complaints
from fipo.launch.reaper import reap
from fipo.launch.trainjob import run_train_job
from tests.apiserver.control_plane import NEEDED, control_plane, missing
from tests.apiserver.controllers import PROGRAMS, Kubelet, controllers, lacks_installations
from tests.apiserver.jobs import train_job
from tests.apiserver.platform import install_kinds, make_namespace, moved
from tests.k8s.conftest import job_set
from tests.k8s.test_manifests import load
from tests.waiting import wait_until

SMALL = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
BRIEF, LONG = 0.5, 600.0
"""Patience with what is known to last, and with what a busy machine will do in the end."""


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    if why := missing(*NEEDED, *PROGRAMS) or lacks_installations():
        pytest.skip(why)
    with control_plane(tmp_path_factory.mktemp("live")) as plane:
        install_kinds(plane)
        with controllers(plane):
            yield plane


@pytest.fixture(scope="module")
def furnish(live, fresh_name):
    """`furnish()`: a namespace with the overlay gpu, its volume bound, its quota counted."""

    def make():
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
                "hostPath": {"path": f"/nowhere/{name}"},
                "claimRef": {"namespace": name, "name": "fipo-runs"},
            },
        }
        live.apply([disk])
        wait_until(lambda: live.get("--namespace", name, "pvc", "fipo-runs")["status"].get("phase") == "Bound", LONG)
        wait_until(lambda: live.get("--namespace", name, "resourcequota", "fipo").get("status", {}).get("hard"), LONG)
        return name

    return make


@pytest.fixture(scope="module")
def shared(furnish):
    return furnish()


@pytest.fixture
def place(live, shared, monkeypatch, as_client):
    """The namespace of most tests; everything is done by the account of the tasks."""
    act_in(live, shared, monkeypatch, as_client)
    yield shared
    live.kubectl("--namespace", shared, "delete", "trainjobs", "--all", "--wait=false")


@pytest.fixture
def own_place(live, furnish, monkeypatch, as_client):
    """A namespace for a test that changes it."""
    name = furnish()
    act_in(live, name, monkeypatch, as_client)
    return name


def act_in(live, name, monkeypatch, as_client):
    monkeypatch.setattr(api, "POLL_SECONDS", 0.3)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    as_client(live.acting_as(name, "default-editor"))


@pytest.fixture
def kubelet(live, place):
    with Kubelet(live, place) as kubelet:
        yield kubelet


NUMBERS = itertools.count()


def job(**more):
    """A job of a name of its own."""
    given = {"queue": "", "node_selector": {}, "resources": SMALL, "patience_seconds": LONG, **more}
    return replace(train_job(**given), fingerprint=f"{next(NUMBERS):064}")


def with_servers(**more):
    return job(runtime="fipo-rollouts-0-2-0", rollout_servers=2, settings="/runs/demo/config.yaml", nodes=1, **more)


def pods(live, place, wanted):
    """Those of a job that are not on their way out."""
    found = live.items("--namespace", place, "pods", f"--selector=jobset.sigs.k8s.io/jobset-name={wanted.name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def nothing_is_left(live, place, wanted):
    """Neither the TrainJob nor what was made of it."""
    kinds = "trainjobs,jobsets,jobs,pods,services,secrets,configmaps,podgroups"
    found = live.kubectl("--namespace", place, "get", kinds, "--output=name", check=False).split()
    return not [name for name in found if wanted.name in name]


def give_up(wanted, *, once):
    """The job is made, `once()` waited for, and the job followed without patience; returns what the launcher says."""
    Cluster().create_job(wanted.manifest())
    wait_until(once, LONG)
    with pytest.raises(LaunchError) as failed:
        run_train_job(replace(wanted, patience_seconds=BRIEF), Cluster())
    return str(failed.value)


def warned_of(wanted, *reasons):
    """Whether an event of one of these reasons is there."""
    return [one for one in complaints(Cluster(), found(wanted)) if one.reason in reasons]


def found(wanted):
    """The TrainJob as it is."""
    job = Cluster().job(wanted.name)
    assert job, f"there is no {wanted.name}"
    return job


class Enough(Exception):
    """Of looking on."""


def keeps_waiting(wanted, *, polls=10):
    """The launcher still follows the job after so many looks at it, longer than its patience."""
    looks = itertools.count()

    class Looking(Cluster):
        def job(self, name):
            if next(looks) == polls:
                raise Enough
            return super().job(name)

    with pytest.raises(Enough):
        run_train_job(replace(wanted, patience_seconds=BRIEF), Looking())


@pytest.mark.parametrize("servers", [0, 2])
def test_the_job_set_and_its_pods_are_what_the_schemas_tests_predict(live, place, servers):
    """`job_set` in tests/k8s stands for Trainer wherever there is no cluster."""
    wanted = with_servers() if servers else job()
    runtime = live.get("--namespace", place, "trainingruntime", wanted.runtime)
    Cluster().create_job(wanted.manifest())
    wait_until(lambda: pods(live, place, wanted), LONG)
    expected = job_set(runtime, wanted.manifest())
    made = live.get("--namespace", place, "jobset", wanted.name)
    assert within(expected["spec"]["failurePolicy"], made["spec"]["failurePolicy"], "policy") == []
    jobs = {entry["name"]: entry for entry in made["spec"]["replicatedJobs"]}
    assert set(jobs) == {entry["name"] for entry in expected["spec"]["replicatedJobs"]}
    for entry in expected["spec"]["replicatedJobs"]:
        assert within(entry, jobs[entry["name"]], entry["name"]) == []
        (pod, *_) = [one for one in pods(live, place, wanted) if f"-{entry['name']}-0-0-" in one["metadata"]["name"]]
        assert within(entry["template"]["spec"]["template"], pod, "pod") == []


def within(expected, found, path):
    """Where `found` lacks or differs from what is expected; more may be there, and entries in any order."""
    if isinstance(expected, dict):
        pairs = [(value, (found or {}).get(key), f"{path}.{key}") for key, value in expected.items()]
        return [line for pair in pairs for line in within(*pair)]
    if isinstance(expected, list) and all(isinstance(entry, dict) for entry in expected):
        named = {entry.get("name"): entry for entry in found or []}
        lacking = [entry for entry in expected if entry not in (found or [])]
        return [line for entry in lacking for line in within(entry, named.get(entry.get("name")), f"{path}[]")]
    return [] if expected == found else [f"{path}: expected {expected!r}, found {found!r}"]


def test_a_job_runs_to_its_end_and_leaves_nothing(live, place, kubelet, capsys):
    wanted = job()
    kubelet.lives[f"{wanted.name}-node"] = [0, 0]
    run_train_job(wanted, Cluster())
    printed = capsys.readouterr().out
    assert "created" in printed and "complete" in printed and "Warning" not in printed, printed
    made = pods(live, place, wanted)
    assert len(made) == 2
    for pod in made:
        spec = pod["spec"]
        assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("fipo-trainer", "fipo-training")
        assert {"name": "fipo-runs", "persistentVolumeClaim": {"claimName": "fipo-runs"}} in spec["volumes"]
        names = {entry["name"] for entry in spec["containers"][0]["env"]}
        assert {"PET_NNODES", "PET_MASTER_ADDR", "PET_NODE_RANK", "FIPO_SETTINGS", "AWS_ACCESS_KEY_ID"} <= names
        assert not [volume for volume in spec["volumes"] if "projected" in volume], "no token of the API"
    Cluster().delete_job(wanted.name)
    wait_until(lambda: nothing_is_left(live, place, wanted), LONG)


@pytest.mark.parametrize("code", [2, 65])
def test_what_no_restart_mends_ends_a_job_at_once(live, place, kubelet, code):
    """Wrong settings, unusable data: no pod is started again, and the task ends as its pod did."""
    wanted = job()
    kubelet.lives[f"{wanted.name}-node-0-0"] = [code]
    with pytest.raises(LaunchError, match=rf"(?s)TrainJob .* failed.*exit code {code}") as failed:
        run_train_job(wanted, Cluster())
    assert failed.value.exit_code == code
    assert live.get("--namespace", place, "jobset", wanted.name)["status"].get("restarts", 0) == 0


@pytest.mark.parametrize("code", [1, 137, 143])
def test_a_crash_or_a_lost_pod_starts_all_pods_again(live, place, kubelet, code):
    wanted = job()
    kubelet.lives[f"{wanted.name}-node-0-0"] = [code, 0]
    kubelet.lives[f"{wanted.name}-node-0-1"] = [0, 0]
    run_train_job(wanted, Cluster())
    assert live.get("--namespace", place, "jobset", wanted.name)["status"]["restarts"] == 1


def test_a_job_that_always_crashes_ends_after_ten_restarts(live, place, kubelet):
    wanted = job(nodes=1)
    kubelet.lives[f"{wanted.name}-node"] = [1] * 20
    with pytest.raises(LaunchError, match="failed"):
        run_train_job(wanted, Cluster())
    assert live.get("--namespace", place, "jobset", wanted.name)["status"]["restarts"] == 10


def test_rollout_servers_end_with_the_trainer(live, place, kubelet):
    wanted = with_servers()
    kubelet.lives[f"{wanted.name}-node"] = [0]
    run_train_job(wanted, Cluster())
    wait_until(
        lambda: not [pod for pod in pods(live, place, wanted) if pod["status"].get("phase") in ("Pending", "Running")],
        LONG,
    )


def test_a_quota_that_is_too_small_is_told_and_given_up(live, own_place, capsys):
    """MLflow's pod counts too, before these or after."""
    hard = json.dumps({"spec": {"hard": {"requests.cpu": "3"}}})
    live.kubectl("--namespace", own_place, "patch", "resourcequota", "fipo", "--type=merge", "--patch", hard)

    def counted():
        return live.get("--namespace", own_place, "resourcequota", "fipo")["status"]["hard"]["requests.cpu"] == "3"

    wait_until(counted, LONG)
    wanted = job(nodes=8)
    said = give_up(wanted, once=lambda: warned_of(wanted, "FailedCreate") and len(pods(live, own_place, wanted)) > 1)
    assert "of 8 pods made" in said and "exceeded quota: fipo" in said
    assert "remedy: see `kubectl describe resourcequota" in said
    assert "FailedCreate" in capsys.readouterr().out
    wait_until(lambda: nothing_is_left(live, own_place, wanted), LONG)


def with_runtime(live, place, change):
    """The runtime `fipo-changed`: ours, changed."""
    live.kubectl(
        "--namespace", place, "delete", "trainingruntime", "fipo-changed", "--ignore-not-found", "--wait=false"
    )
    runtime = copy.deepcopy(live.get("--namespace", place, "trainingruntime", "fipo-0-2-0"))
    runtime["metadata"] = {"name": "fipo-changed", "namespace": place, "labels": runtime["metadata"]["labels"]}
    change(runtime["spec"]["template"]["spec"])
    live.apply([runtime], "--server-side")


def privileged(spec):
    (node,) = spec["replicatedJobs"]
    del node["template"]["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]


def hyphenated(spec):
    spec["failurePolicy"]["rules"][0]["name"] = "not-worth-a-restart"


def other_account(spec):
    (node,) = spec["replicatedJobs"]
    node["template"]["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"


@pytest.mark.parametrize(
    ("change", "reason", "words", "remedy"),
    [
        (privileged, "FailedCreate", "violates PodSecurity", "the pods break the namespace's Pod Security"),
        (
            hyphenated,
            "TrainJobResourcesCreationFailed",
            "invalid failure policy rule name",
            "the cluster refuses what the TrainingRuntime asks for",
        ),
        (other_account, "FailedCreate", 'serviceaccount "nobody" not found', "apply the overlay again"),
    ],
)
def test_what_cannot_be_made_is_told_and_given_up(live, own_place, change, reason, words, remedy):
    """By Pod Security, by JobSet's webhook, by admission: only an event says so."""
    with_runtime(live, own_place, change)
    wanted = job(runtime="fipo-changed")
    said = give_up(wanted, once=lambda: warned_of(wanted, reason))
    assert words in said and f"remedy: {remedy}" in said
    wait_until(lambda: nothing_is_left(live, own_place, wanted), LONG)


def test_a_node_without_room_is_waited_for(live, place, capsys):
    """No patience runs out over it: room may come."""
    wanted = job(node_selector={"accelerator": "h200"})
    Cluster().create_job(wanted.manifest())

    def judged():
        return [pod["status"].get("conditions") for pod in pods(live, place, wanted)].count(None) == 0

    wait_until(lambda: len(pods(live, place, wanted)) == 2 and judged(), LONG)
    keeps_waiting(wanted)
    assert "Unschedulable" in capsys.readouterr().out


def test_a_queued_job_is_waited_for(live, place, capsys):
    """As Kueue holds it back: suspended."""
    wanted = job()
    manifest = wanted.manifest()
    manifest["spec"]["suspend"] = True
    Cluster().create_job(manifest)
    wait_until(lambda: found(wanted).get("status", {}).get("conditions"), LONG)
    keeps_waiting(wanted)
    assert "suspended" in capsys.readouterr().out.lower()
    assert pods(live, place, wanted) == []


def test_a_queued_job_runs_when_it_is_its_turn(live, place, kubelet, capsys):
    wanted = job()
    manifest = wanted.manifest()
    manifest["spec"]["suspend"] = True
    Cluster().create_job(manifest)
    kubelet.lives[f"{wanted.name}-node"] = [0, 0]

    def admit():
        wait_until(lambda: found(wanted).get("status", {}).get("conditions"), LONG)
        patch = json.dumps({"spec": {"suspend": False}})
        live.kubectl("--namespace", place, "patch", "trainjob", wanted.name, "--type=merge", "--patch", patch)

    thread = threading.Thread(target=admit)
    thread.start()
    run_train_job(wanted, Cluster())
    thread.join()
    assert "complete" in capsys.readouterr().out


def test_a_run_s_jobs_go_with_its_workflow(live, place, kubelet):
    """The garbage collector follows the owner down to the pods."""
    wanted = job()
    flow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "run", "namespace": place}}
    spec = {"entrypoint": "main", "templates": [{"name": "main", "suspend": {}}]}
    live.kubectl("create", "--filename", "-", text=json.dumps({**flow, "spec": spec}))
    uid = live.get("--namespace", place, "workflow", "run")["metadata"]["uid"]
    owner = {"apiVersion": flow["apiVersion"], "kind": "Workflow", "name": "run", "uid": uid}
    Cluster().create_job(wanted.manifest(owner=owner))
    wait_until(lambda: len(pods(live, place, wanted)) == 2, LONG)
    live.kubectl("--namespace", place, "delete", "workflow", "run")
    wait_until(lambda: nothing_is_left(live, place, wanted), LONG)


def test_the_reaper_leaves_nothing_of_an_orphan(live, place, kubelet, as_client):
    wanted = job()
    dead = {"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "8c1f3f1c-0000-4000-8000-000000000009"}
    Cluster().create_job(wanted.manifest())
    Cluster().adopt_job(wanted.name, dead)
    as_client(live.acting_as(place, "fipo-reaper"))
    assert reap(Cluster()) in ({wanted.name: "Pod gone is gone"}, {})  # the garbage collector may be quicker
    wait_until(lambda: nothing_is_left(live, place, wanted), LONG)


def test_a_runtime_s_policy_is_fixed(live, place):
    """Another version brings a runtime of another name, see docs/upgrade.md."""
    change = json.dumps({"spec": {"template": {"spec": {"failurePolicy": {"maxRestarts": 3}}}}})
    patch = ["--type=merge", "--patch", change]
    said = live.kubectl("--namespace", place, "patch", "trainingruntime", "fipo-0-2-0", *patch, check=False)
    assert "immutable" in said


def hasty(spec):
    """Half of what pods may take to save is how long a namespace's deletion waits before it looks again."""
    (node,) = spec["replicatedJobs"]
    node["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1


def test_a_namespace_that_is_deleted_goes(live, own_place):
    """With a running job, its volume and everything of the overlay."""
    with_runtime(live, own_place, hasty)
    wanted = job(runtime="fipo-changed")
    with Kubelet(live, own_place):
        Cluster().create_job(wanted.manifest())
        wait_until(lambda: len(pods(live, own_place, wanted)) == 2, LONG)
        live.kubectl("delete", "namespace", own_place, "--wait=false")
        wait_until(lambda: "NotFound" in live.kubectl("get", "namespace", own_place, check=False), LONG)
