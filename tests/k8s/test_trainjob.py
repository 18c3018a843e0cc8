import json
import os
import signal
import threading
import time
from dataclasses import replace

import jsonschema
import pytest

from fipo.errors import Interrupted, LaunchError
from fipo.launch import cluster
from fipo.launch.cluster import Cluster, Unavailable
from fipo.launch.ending import ended_as
from fipo.launch.trainjob import TrainJob, run_train_job
from tests.k8s.conftest import BREAKS_OFF


@pytest.fixture(autouse=True)
def quick(monkeypatch, api):
    api.act_as("fipo-launcher")
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)


@pytest.fixture
def job():
    command = ["torchrun", "--module", "fipo.training.rl", "--config", "/runs/demo/config.yaml"]
    return TrainJob("demo", "train", "ab" * 32, command, runtime="fipo-gpu", nodes=2, time_limit_seconds=3600)


RESOURCES = {"limits": {"nvidia.com/gpu": "8"}, "requests": {"cpu": "32", "memory": "512Gi"}}
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
TASK = {
    # What a real Kubeflow hands over besides; none of it may reach the API server.
    "resources": {"limits": {"cpu": "{{$.inputs.parameters['pipelinechannel--cpus_per_node']}}"}},
    "node_selector": {"gpu": "{{$.inputs.parameters['pipelinechannel--node_selector']}}"},
    "tolerations": None,
    "affinity": {},
    "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
    "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "fipo-runs"}}],
    "volume_mounts": [{"name": "runs", "mountPath": "/runs"}],
}


def test_the_manifest_obeys_the_published_schema(job, check):
    check(job.manifest())
    full = replace(job, queue="research", task=TASK, resources=RESOURCES, tolerations=TOLERATIONS)
    full = replace(full, node_selector={"gpu": "h200"})
    manifest = full.manifest(owner={"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}, image="fipo:1")
    check(manifest)
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert manifest["spec"]["trainer"]["resourcesPerNode"] == RESOURCES
    assert "$.inputs" not in json.dumps(manifest)
    (patch,) = manifest["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"gpu": "h200"}, TOLERATIONS)
    assert pod["volumes"] == TASK["volumes"] and manifest["spec"]["trainer"]["env"] == TASK["env"]


def test_the_schema_check_can_fail(job, check):
    manifest = job.manifest()
    manifest["spec"]["trainer"]["gpus"] = 8
    with pytest.raises(jsonschema.ValidationError, match="gpus"):
        check(manifest)
    manifest = job.manifest()
    manifest["metadata"]["name"] = "1-begins-with-a-digit"
    with pytest.raises(AssertionError, match="matches"):
        check(manifest)


def test_names_are_labels_that_follow_from_run_step_and_settings(job):
    long = TrainJob("7b.run_" + "x" * 60, "train", "f", [], runtime="r")
    assert len(f"{long.name}-node-0-999") <= 63
    assert long.name.startswith("fipo-7b-run-x")
    assert job.name == TrainJob("demo", "train", "ab" * 32, [], runtime="other").name
    assert job.name != TrainJob("demo", "train", "ac" * 32, [], runtime="fipo-gpu").name


def test_success_prints_rank_0s_log_once(job, api, capsys):
    def starts(_):
        api.log(api.add_pod(job.name, 0), "step 1/2", "step 1/2")
        api.log(api.add_pod(job.name, 1), "rank 1 says nothing here")

    def goes_on(_):
        api.log(f"{job.name}-node-0-0-0", "step 2/2")

    api.script = [starts, goes_on, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("[launch]")]
    assert printed == ["step 1/2", "step 1/2", "step 2/2"]
    assert api.jobs[job.name]["spec"]["trainer"]["numNodes"] == 2


def test_the_log_goes_on_with_the_pod_of_the_next_attempt(job, api, capsys):
    def restarts(_):
        api.logs[api.add_pod(job.name, attempt=1)] = ["2026-11-23T12:05:00Z resumed at step 1"]

    def starts(_):
        api.log(api.add_pod(job.name), "step 1")

    api.script = [starts, restarts, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("[launch]")]
    assert printed == ["step 1", "resumed at step 1"]


def test_failure_shows_the_failing_pods_last_lines(job, api):
    def fails(_):
        ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-23T12:09:00Z"}
        api.add_pod(job.name, 0, containerStatuses=[{"name": "node", "state": {"terminated": ended}}])
        killed = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-23T12:08:00Z"}
        api.log(
            api.add_pod(job.name, 1, containerStatuses=[{"name": "node", "state": {"terminated": killed}}]),
            *(f"line {number}" for number in range(100)),
        )
        api.finish(job.name, "Failed", "jobset failed due to one or more job failures")

    api.script = [fails]
    with pytest.raises(LaunchError) as failure:
        run_train_job(job, Cluster())
    message = str(failure.value)
    assert "one or more job failures" in message
    assert f"pod {job.name}-node-0-1-0: exit code 137 (OOMKilled)" in message, "the first to fail is the cause"
    assert "line 99" in message and "line 60" in message and "line 59" not in message


def test_a_retried_step_finds_its_job_again(job, api, capsys):
    api.jobs[job.name] = job.manifest()
    api.log(api.add_pod(job.name), "step 7")
    api.script = [lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert api.created == 0
    assert "found again" in capsys.readouterr().out


@pytest.mark.parametrize("end", ["Failed", "Complete"])
def test_a_job_that_ended_before_without_a_result_starts_anew(job, api, end):
    api.jobs[job.name] = job.manifest()
    api.finish(job.name, end)
    api.script = [lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert api.created == 1


def test_pods_that_a_deleted_job_left_may_save_before_its_name_is_used_again(job, api, monkeypatch):
    """The job is gone at once and its pods have their grace period."""
    api.jobs[job.name] = job.manifest()
    api.finish(job.name, "Failed")
    pod = api.add_pod(job.name)
    waits = []

    def sleep(_):
        waits.append(api.created)
        if len(waits) == 3:
            del api.pods[pod]

    monkeypatch.setattr("fipo.launch.trainjob.time.sleep", sleep)
    api.on_create = lambda _: api.finish(job.name, "Complete")
    run_train_job(job, Cluster())
    assert waits[:3] == [0, 0, 0] and api.created == 1


def test_pods_that_hang_on_a_lost_node_are_named(job, api, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.1)
    api.add_pod(job.name, 0, phase="Failed")
    pod = api.add_pod(job.name, 1)
    with pytest.raises(LaunchError, match=f"have not ended .*: {pod} on node machine-1; if a node is lost") as hangs:
        run_train_job(job, Cluster())
    assert "is being deleted" not in str(hangs.value)


def test_a_job_that_is_not_deleted_in_time_is_an_error(job, api, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.1)
    api.jobs[job.name] = job.manifest()
    api.jobs[job.name]["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
    with pytest.raises(LaunchError, match="is being deleted since"):
        run_train_job(job, Cluster())


def test_a_job_that_is_being_deleted_is_waited_for(job, api):
    """By someone who waits for its pods: the name is taken until the last one has saved."""
    api.jobs[job.name] = job.manifest()
    api.finish(job.name, "Failed")
    api.lingering = True
    api.script = [lambda _: None, lambda _: None, lambda _: api.jobs.clear()]
    api.script += [lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert api.created == 1


@pytest.mark.parametrize("fault", [0, 429, 500, 503, BREAKS_OFF])
def test_an_api_server_that_is_away_for_a_while_is_waited_for(job, api, fault, capsys):
    api.faults = [fault] * 5
    api.script = [lambda _: setattr(api, "faults", [fault] * 5), lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert "trying again" in capsys.readouterr().out
    assert api.created == 1


def test_a_log_that_breaks_off_is_read_again(job, api, capsys):
    def begins(_):
        api.log(api.add_pod(job.name), "step 1", "step 2")
        api.faults = [None, BREAKS_OFF]  # of the pods, and of the log

    api.script = [begins, lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "step" in line] == ["step 1", "step 2"]
    assert "trying again" not in printed


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_log_that_a_lost_node_keeps_stops_nobody(job, api, status, capsys):
    """The job goes on elsewhere, and its log with it."""
    api.on_create = lambda _: api.log(api.add_pod(job.name), "step 1")

    def elsewhere(_):
        api.lost_node = 0
        api.log(api.add_pod(job.name, attempt=1), "step 2")

    api.lost_node = status
    api.script = [*[lambda _: None] * 5, elsewhere, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    printed = capsys.readouterr().out
    assert "step 2" in printed and "trying again" not in printed


def test_a_job_that_fails_on_a_lost_node_says_so_without_its_log(job, api):
    terminated = {"terminated": {"exitCode": 65, "reason": "Error"}}
    ended = {"phase": "Failed", "containerStatuses": [{"name": "node", "state": terminated}]}
    api.on_create = lambda _: api.add_pod(job.name, **ended)
    api.lost_node = 500
    api.script = [lambda _: api.finish(job.name, "Failed", "no luck")]
    with pytest.raises(LaunchError, match=r"(?s)no luck.*exit code 65") as failed:
        run_train_job(job, Cluster())
    assert failed.value.exit_code == 65


def test_an_api_server_that_stays_away_ends_the_step(job, api, monkeypatch):
    api.jobs[job.name] = job.manifest()
    api.script = [lambda _: setattr(api, "faults", [503] * 1000)]
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="503"):
        run_train_job(job, Cluster())


def test_a_refusal_names_the_cause(job, api):
    api.faults = [403]
    with pytest.raises(LaunchError, match=r"namespace team.*role from k8s/base"):
        run_train_job(job, Cluster())


def test_a_job_that_vanishes_is_an_error(job, api):
    api.script = [lambda _: api.jobs.clear()]
    with pytest.raises(LaunchError, match="deleted by someone else"):
        run_train_job(job, Cluster())


def test_why_pods_wait_is_said_once(job, api, capsys):
    def unschedulable(_):
        why = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes have nvidia.com/gpu"}
        api.add_pod(job.name, phase="Pending", conditions=[why])

    api.script = [unschedulable, lambda _: None, lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert capsys.readouterr().out.count("Unschedulable: 0/3 nodes have nvidia.com/gpu") == 1


def test_progress_that_the_trainer_reported_is_said(job, api, capsys):
    api.on_create = lambda _: [api.add_pod(job.name, index) for index in range(2)]

    def reports(percent, left):
        status = {"trainerStatus": {"progressPercentage": percent, "estimatedRemainingSeconds": left}}
        return lambda _: api.jobs[job.name].update(status=status)

    api.script = [reports(10, 900), lambda _: None, reports(50, 500), lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    said = [line for line in capsys.readouterr().out.splitlines() if "% done" in line]
    assert [line.split(": ")[1] for line in said] == ["10 % done, 900 s left", "50 % done, 500 s left"]


def test_waiting_in_a_queue_is_said(job, api, capsys):
    api.script = [lambda _: api.finish(job.name, "Suspended", "TrainJob is suspended")]
    api.script += [lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert capsys.readouterr().out.count("suspended: TrainJob is suspended") == 1


def interrupted(job, api, at=2):
    """Run the job, and have SIGTERM arrive while it runs."""
    kill = threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGTERM))
    api.script = [lambda _: None] * at + [lambda _: kill.start()] + [lambda _: time.sleep(0.005)] * 1000
    with pytest.raises(Interrupted) as stopped:
        run_train_job(job, Cluster())
    return str(stopped.value)


def test_cancelling_deletes_the_job(job, api):
    assert "was stopped" in interrupted(job, api)
    assert api.jobs == {}


OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-1", "uid": "w"}


@pytest.fixture
def task_pod(api, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "task")
    metadata = {"name": "task", "uid": "t", "ownerReferences": [{**OWNER, "controller": True}]}
    containers = [{"name": "wait", "image": "argoexec"}, {"name": "main", "image": "fipo:0.1.0"}]
    api.pods["task"] = {"metadata": metadata, "spec": {"containers": containers}, "status": {}}
    return api.pods["task"]


def test_the_job_belongs_to_the_workflow_and_runs_the_tasks_image(job, api, task_pod):
    api.script = [lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    created = api.jobs[job.name]
    assert created["metadata"]["ownerReferences"] == [OWNER]
    assert created["spec"]["trainer"]["image"] == "fipo:0.1.0"


def test_a_new_run_takes_over_the_job_of_an_ended_one(job, api, task_pod):
    """Otherwise it would be deleted with its first owner, and reaped."""
    api.jobs[job.name] = job.manifest(owner={**OWNER, "name": "run-0", "uid": "old"})
    api.script = [lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert api.created == 0
    assert api.jobs[job.name]["metadata"]["ownerReferences"] == [OWNER]


def test_a_job_that_failed_is_not_started_again_by_a_retry_of_the_same_run(job, api, task_pod):
    api.jobs[job.name] = job.manifest(owner=OWNER)
    api.finish(job.name, "Failed", "the cause")
    with pytest.raises(LaunchError, match="the cause"):
        run_train_job(job, Cluster())
    assert api.created == 0


def test_eviction_of_the_task_leaves_the_job_running(job, api, task_pod):
    task_pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert "goes on" in interrupted(job, api)
    assert list(api.jobs) == [job.name]


def test_the_role_grants_no_more_than_is_used(job, api, task_pod):
    api.jobs[job.name] = job.manifest()
    api.finish(job.name, "Failed")
    api.script = [lambda _: None, lambda _: api.add_pod(job.name), lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    api.jobs[job.name] = job.manifest()
    api.script = [lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    Cluster().runtime("fipo-rollouts")  # before each job
    ended_as("task", "exit-handler-1")  # at the end of the run
    assert api.used == api.granted
