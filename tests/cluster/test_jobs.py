"""The half that needs Kubeflow Trainer alone: tasks as pods, their TrainJobs, and what is lost in mid-run."""

import json
import re

import pytest

from tests.cluster.target import eventually, mlflow_parents, tiny_settings
from tests.cluster.tasks import STEPS, Tasks

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

TWO_NODES = "trainjob.nodes=2"
LONG = ("sft.steps=2500", "sft.checkpoint_every=50", "sft.evaluate_every=2500")
"""Settings of a warm-up that lasts a minute or more."""


@pytest.fixture(scope="module")
def begin(applied, session):
    """`begin(stem, *settings)`: the tasks of a run of that name, after `configure`."""
    begun = []

    def make(stem, *settings):
        tasks = Tasks(applied, f"{stem}-{session}", [*tiny_settings(), *applied.settings, TWO_NODES, *settings])
        begun.append(tasks)
        tasks.begin()
        return tasks

    yield make
    for tasks in begun:
        tasks.end()


@pytest.fixture(scope="module")
def finished(begin, session):
    """A run that has gone through every step, its model promoted."""
    serving = ("deploy.enabled=true", "deploy.cpus=1", "deploy.memory=2Gi")
    passing = ("gate.minimum=0.01", "sft.steps=400", "train.learning_rate=1e-9")  # not worse than before RL
    tasks = begin("steps", f"registry.model_name=fipo-{session}", *passing, *serving)
    for step in STEPS:
        tasks.run(step, todo=" ".join(STEPS), decision="promote")
    return tasks


def test_every_step_runs_as_a_pod_and_its_jobs_on_two_nodes(finished, note):
    jobs = finished.jobs()
    assert len(jobs) == 3
    for job in jobs:
        conditions = {entry["type"]: entry["status"] for entry in job["status"]["conditions"]}
        assert conditions.get("Complete") == "True", (job["metadata"]["name"], conditions)
        assert job["spec"]["trainer"]["numNodes"] == 2
    with finished.target.forwarded("mlflow", 5000) as url:
        assert set(mlflow_parents(url, finished.name).values()) == {"FINISHED"}
    note(f"{len(STEPS)} steps, {len(jobs)} TrainJobs of two nodes")


def test_the_same_run_again_finds_all_of_it(finished):
    assert finished.configure() == "deploy"
    assert len(finished.jobs()) == 3


def test_the_champion_is_served_and_asked(finished, session, note):
    target, name = finished.target, f"fipo-{session}"
    if not target.kubectl("get", "serviceaccount", "fipo-server", "--ignore-not-found", "--output", "name"):
        pytest.skip("the overlay is without k8s/components/serving")
    try:
        pod = finished.start("deploy")
        assert finished.wait(pod) == "Succeeded", finished.log(pod)[-3000:]
        assert re.search(
            rf"is served at http://{name}(-predictor)?\.{target.namespace}\.svc[a-z.]*/v1", finished.log(pod)
        )
        (server,) = target.objects("pods", f"app.kubernetes.io/name={name}")
        assert server["spec"]["serviceAccountName"] == "fipo-server"
        again = finished.start("deploy")
        assert finished.wait(again) == "Succeeded", finished.log(again)[-3000:]
        (same,) = target.objects("pods", f"app.kubernetes.io/name={name}")
        assert same["metadata"]["uid"] == server["metadata"]["uid"], "the same version is left alone"
        note(name)
    finally:
        kserve = ["inferenceservice"] if target.serves("inferenceservices.serving.kserve.io") else []
        for kind in (*kserve, "deployment", "service"):
            target.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")


@pytest.fixture
def training(begin):
    """`training(stem)`: a run whose warm-up has saved its first checkpoint, the task's pod, and its job's."""

    def make(stem):
        tasks = begin(stem, *LONG)
        tasks.run("prepare")
        pod = tasks.start("sft")
        tasks.wait_for(pod, r"step ([1-9]\d\d+)/")
        nodes = [one["metadata"]["name"] for one in tasks.node_pods()]
        assert len(nodes) == 2
        return tasks, pod, nodes

    return make


def continued(tasks, pod):
    """At which step the job of this task went on, once it has ended well."""
    assert tasks.wait(pod) == "Succeeded", tasks.log(pod)[-3000:]
    step = int(re.findall(r"process\(es\), from step (\d+)", tasks.log(pod))[-1])
    assert step >= 50, "from its last checkpoint"
    return step


@pytest.mark.parametrize("way", ["deleted", "evicted"])
def test_a_lost_pod_of_a_job_costs_no_more_than_its_last_steps(training, note, way):
    tasks, pod, nodes = training(f"lost-{way}")
    lose(tasks, nodes[1], way)
    step = continued(tasks, pod)
    (job,) = tasks.jobs()
    job_set = json.loads(tasks.target.kubectl("get", "jobset", job["metadata"]["name"], "--output", "json"))
    assert job_set["status"]["restarts"] == 1
    note(f"{nodes[1]} {way}; all pods began again at step {step}")


def test_a_pod_that_is_lost_as_it_starts_does_not_wait_to_be_killed(begin, note):
    """Before there is anything to save, in none of the minutes that a running one may take."""
    tasks = begin("early")
    tasks.run("prepare")
    pod = tasks.start("sft")
    eventually(lambda: len(tasks.node_pods()) == 2, tasks.target.limit_seconds, "no pod of the job runs")
    first = tasks.node_pods()[0]["metadata"]["name"]
    lose(tasks, first, "deleted")
    seconds = eventually(lambda: tasks.target.phase(first) == "Gone", 150, f"{first} is still there")
    assert tasks.wait(pod) == "Succeeded", tasks.log(pod)[-3000:]
    note(f"gone after {seconds:.0f} s")


def lose(tasks, pod, way):
    """Take a pod away as a person does, or as a drained node."""
    if way == "deleted":
        tasks.target.kubectl("delete", "pod", pod, "--wait=false")
    else:
        tasks.target.evict(pod)


@pytest.mark.parametrize("way", ["deleted", "evicted"])
def test_a_lost_launcher_leaves_its_job_to_its_successor(training, way):
    """Its shell ends at once, and all else in the container with it: nothing could be deleted in between."""
    tasks, pod, nodes = training(f"launcher-{way}")
    needs_workflow(tasks)
    lose(tasks, pod, way)
    assert tasks.wait(pod) in ("Gone", "Failed")
    successor = tasks.start("sft")
    tasks.wait_for(successor, "found again")
    assert [one["metadata"]["name"] for one in tasks.node_pods()] == nodes, "no pod of the job has noticed"
    assert tasks.wait(successor) == "Succeeded", tasks.log(successor)[-3000:]


def needs_workflow(tasks):
    if not tasks.flow:
        pytest.skip("no workflows here: the job's owner is the pod itself, and goes with it")


def test_the_reaper_and_the_garbage_collector_leave_nothing(training, note):
    """A run that is terminated in mid-job, and then deleted: its task is killed, and no exit handler comes to run."""
    tasks, pod, _ = training("ended")
    needs_workflow(tasks)
    tasks.terminate()
    lose(tasks, pod, "deleted")
    seconds = eventually(lambda: tasks.jobs() == [], 60, "the job is left")
    with tasks.target.forwarded("mlflow", 5000) as url:
        eventually(lambda: set(mlflow_parents(url, tasks.name).values()) == {"KILLED"}, 60, "the run is open in MLflow")
    eventually(lambda: tasks.left() == [], 300, "something is left", lambda: str(tasks.left()))
    tasks.target.kubectl("delete", "workflows.argoproj.io", tasks.name)
    mine = ("pods", f"fipo-test={tasks.name}")
    eventually(lambda: tasks.target.objects(*mine) == [], 300, "pods of tasks are left")
    note(f"no job after {seconds:.0f} s, no pod after the workflow")


def test_wrong_settings_are_tried_once(begin, note):
    tasks = begin("wrong")
    pod = tasks.start("sft")  # before `prepare`: there are no data
    assert tasks.wait(pod) == "Failed"
    assert tasks.jobs() == []
    note(tasks.log(pod).strip().splitlines()[-1][:80])


SECRET = {"env": {"name": "X", "valueFrom": {"secretKeyRef": {"name": "nonesuch", "key": "x"}}}}
CONFIG_MAP = {"volumeMounts": {"name": "nonesuch", "mountPath": "/nonesuch"}}


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [("secret", SECRET, 'secret "nonesuch" not found'), ("volume", CONFIG_MAP, 'configmap "nonesuch" not found')],
)
def test_pods_that_kubelet_cannot_start_are_told_and_given_up(begin, applied, kind, more, said, note):
    """In a runtime of somebody's own."""
    (runtime, *_) = applied.objects("trainingruntimes", "app.kubernetes.io/part-of=fipo")
    spec = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    for field, entry in more.items():
        spec["containers"][0][field].append(entry)
    spec["volumes"].append({"name": "nonesuch", "configMap": {"name": "nonesuch"}})  # none where nothing mounts it
    runtime["metadata"] = {"name": f"fipo-without-{kind}", "labels": {"fipo-test": "runtime"}}
    applied.create(runtime)
    try:
        tasks = begin(
            f"stuck-{kind}", f"trainjob.runtime={runtime['metadata']['name']}", "trainjob.patience_seconds=15"
        )
        tasks.run("prepare")
        pod = tasks.start("sft")
        assert tasks.wait(pod) == "Failed"
        assert "could not start for 15 s" in tasks.log(pod) and said in tasks.log(pod)
        note(next(line for line in tasks.log(pod).splitlines() if line.startswith("remedy:")))
        eventually(lambda: tasks.left() == [], 300, "something is left", lambda: str(tasks.left()))
    finally:
        applied.kubectl("delete", "trainingruntime", runtime["metadata"]["name"], "--wait=false")


def test_applying_the_overlay_again_changes_nothing(applied):
    before = versions(applied)
    if applied.overlay.parts:
        applied.kubectl("apply", "--kustomize", str(applied.overlay))
    assert versions(applied) == before


def versions(target):
    """Generation of everything that the overlay makes."""
    kinds = "deployments,statefulsets,configmaps,trainingruntimes,cronjobs,networkpolicies,roles"
    found = target.objects(kinds, "app.kubernetes.io/part-of=fipo")
    return {f"{item['kind']} {item['metadata']['name']}": item["metadata"].get("generation") for item in found}
