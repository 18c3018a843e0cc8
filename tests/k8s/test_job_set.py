"""What Kubeflow Trainer makes of the launcher's TrainJobs and the project's runtimes."""

import json
import subprocess
import sys

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError, LaunchError
from fipo.launch import cluster
from fipo.launch.runtimes import SERVERS_VARIABLE, needs_its_image, wanted_runtime
from fipo.launch.trainjob import TrainJob, train_job
from fipo.rollout import factory
from fipo.rollout.served.guard import TOKEN_VARIABLE

PLACE = {
    "resources": {
        "limits": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "1500Gi"},
        "requests": {"cpu": "64", "memory": "1500Gi"},
    },
    "node_selector": {"accelerator": "h200"},
    "tolerations": [{"key": "reserved", "operator": "Equal", "value": "fipo", "effect": "NoSchedule"}],
}
TASK = {
    "env": [{"name": "FIPO_SETTINGS", "value": "x=1"}],
    "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "fipo-runs"}}],
    "volume_mounts": [{"name": "runs", "mountPath": "/runs"}],
}


@pytest.fixture
def made(runtimes, build, check):
    """The pods, by replicated job, of a job with this runtime; the JobSet obeys its published schema."""

    def made(runtime, **fields):
        fields = {**PLACE, "nodes": 16, "task": TASK, **fields}
        job = TrainJob("demo", "train", "f", ["python", "-m", "x"], runtime=runtime, **fields)
        job_set = build(runtimes[runtime], job.manifest(image="fipo:1"))
        check(job_set)
        replicated = {entry["name"]: entry["template"]["spec"] for entry in job_set["spec"]["replicatedJobs"]}
        return job, job_set, replicated

    return made


def environment(spec, container):
    (found,) = [entry for entry in spec["template"]["spec"]["containers"] if entry["name"] == container]
    return {entry["name"]: entry for entry in found["env"]}


def test_what_settings_and_task_say_reaches_the_pods(made):
    _, _, replicated = made("fipo")
    pod = replicated["node"]["template"]["spec"]
    (node,) = pod["containers"]
    assert replicated["node"]["parallelism"] == 16
    assert node["command"] == ["python", "-m", "x"] and node["image"] == "fipo:1"
    assert node["resources"]["limits"] == {"cpu": "64", "memory": "1500Gi", "nvidia.com/gpu": "8"}
    assert node["resources"]["requests"] == {"cpu": "64", "memory": "1500Gi"}
    assert environment(replicated["node"], "node").keys() >= {"FIPO_SETTINGS", "NCCL_SOCKET_IFNAME", "OMP_NUM_THREADS"}
    assert pod["nodeSelector"] == PLACE["node_selector"] and pod["tolerations"] == PLACE["tolerations"]
    assert {mount["mountPath"] for mount in node["volumeMounts"]} == {"/dev/shm", "/tmp", "/runs"}
    assert {volume["name"] for volume in pod["volumes"]} == {"shm", "tmp", "runs"}
    (shm,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}


def test_rollout_servers_share_the_jobs_settings_volume_and_secret(made):
    job, job_set, replicated = made("fipo-rollouts", rollout_servers=2, settings="/runs/demo/config.yaml")
    servers, trainer = environment(replicated["rollout"], "server"), environment(replicated["node"], "node")
    assert servers["FIPO_CONFIG"]["value"] == "/runs/demo/config.yaml"
    assert servers["FIPO_ROLLOUT_TOKEN"] == trainer["FIPO_ROLLOUT_TOKEN"]
    assert "FIPO_SETTINGS" in servers
    (server,) = replicated["rollout"]["template"]["spec"]["containers"]
    assert "/runs" in {mount["mountPath"] for mount in server["volumeMounts"]}
    # <job set>-<replicated job>-<replica>-<pod>.<subdomain>, which is the job set's name
    urls = [f"http://{job.name}-rollout-0-{index}.{job.name}:8000" for index in range(2)]
    assert trainer["FIPO_ROLLOUT_SERVERS"]["value"].split(",") == urls
    assert server["ports"] == [{"name": "http", "containerPort": 8000}]
    assert job_set["spec"]["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["node"]}


def test_trainer_and_servers_look_where_the_job_puts_things(runtimes):
    assert SERVERS_VARIABLE == factory.SERVERS_VARIABLE
    for job in runtimes["fipo-rollouts"]["spec"]["template"]["spec"]["replicatedJobs"]:
        (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
        assert TOKEN_VARIABLE in {variable["name"] for variable in container["env"]}
    assert container["command"][:3] == ["python", "-m", "fipo.training.serve"]
    done = subprocess.run(
        [sys.executable, *container["command"][1:3], "--config", "/nowhere", *container["command"][5:]],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2 and "recipe '/nowhere'" in done.stderr, "the command is understood"


def test_pod_names_fit(made):
    job = TrainJob("7b.run_" + "x" * 60, "evaluate", "f", [], runtime="fipo-rollouts")
    assert len(f"{job.name}-rollout-0-99-abcde") <= 63, "JobSet's limit; a random suffix of five is its own"


RUNTIMES = {"runtime": "", "vllm_runtime": "-vllm", "rollout_runtime": "-rollouts"}


@pytest.fixture
def config(tmp_path):
    settings = [f"run.directory={tmp_path}", "trainjob.runtime=fipo", "trainjob.rollout_runtime=fipo-rollouts"]
    return [*settings, "rollout.engine=served"]


@pytest.fixture
def started(api, runtimes, config, monkeypatch):
    """The job that a step starts."""
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    api.act_as("fipo-launcher")
    api.runtimes = runtimes
    api.on_create = lambda manifest: api.finish(manifest["metadata"]["name"], "Complete")

    def started(step, *settings):
        changed = load_config("demo", [*config, *settings])
        train_job("fipo.x", ["--config", "x"], config=changed, step=step, fingerprint="f", task={})
        (job,) = api.jobs.values()
        return job["spec"]

    return started


@pytest.mark.parametrize("step", ["train", "evaluate", "score"])
def test_steps_that_generate_get_the_servers_that_the_runtime_has(started, step):
    spec = started(step)
    assert spec["runtimeRef"]["name"] == "fipo-rollouts"
    (variable,) = spec["trainer"]["env"]
    assert variable["name"] == SERVERS_VARIABLE and len(variable["value"].split(",")) == 2
    assert "image" not in spec["trainer"], "trainer and servers run the runtime's"


def test_other_steps_take_no_servers(started):
    spec = started("sft")
    assert spec["runtimeRef"]["name"] == "fipo"
    assert "env" not in spec["trainer"]


@pytest.mark.parametrize(
    ("setting", "asked"),
    [
        ("gpus_per_node=8", {"nvidia.com/gpu": "8"}),
        ("cpus_per_node=64", {"cpu": "64"}),
        ("memory_per_node=1500Gi", {"memory": "1500Gi"}),
    ],
)
def test_what_a_node_gets_is_a_setting_and_else_the_runtimes(started, api, setting, asked):
    """All of it is sent: Trainer counts processes by what the TrainJob asks for, and by nothing else."""
    own = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "1Ti"}
    (container,) = api.runtimes["fipo"]["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"][
        "template"
    ]["spec"]["containers"]
    container["resources"] = {"requests": own, "limits": {**own, "nvidia.com/gpu": "4"}}
    resources = started("sft", f"trainjob.{setting}")["trainer"]["resourcesPerNode"]
    assert resources == {"requests": {**own, **asked}, "limits": {**own, "nvidia.com/gpu": "4", **asked}}


def test_nothing_set_leaves_the_runtimes_resources(started):
    spec = started("sft")
    assert "resourcesPerNode" not in spec["trainer"] and "numProcPerNode" not in spec["trainer"]
    assert "runtimePatches" not in spec


def test_where_the_pods_run_is_a_setting(started):
    tolerations = [{"key": "reserved", "operator": "Exists", "tolerationSeconds": 60}]
    settings = ["trainjob.node_selector={accelerator: h200}", f"trainjob.tolerations={json.dumps(tolerations)}"]
    (patch,) = started("train", *settings, "trainjob.gpus_per_node=8")["runtimePatches"]
    jobs = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert [job["name"] for job in jobs] == ["node", "rollout"]
    for job in jobs:
        pod = job["template"]["spec"]["template"]["spec"]
        assert (pod["nodeSelector"], pod["tolerations"]) == ({"accelerator": "h200"}, tolerations)


def test_a_runtime_without_servers_is_refused(started, api):
    api.runtimes = {"fipo-rollouts": api.runtimes["fipo"]}
    with pytest.raises(ConfigError, match="replicated job 'rollout'; got 'fipo-rollouts', which has none"):
        started("train")
    api.runtimes = {}
    for step, setting in [("train", "rollout_runtime"), ("sft", "runtime")]:
        with pytest.raises(ConfigError, match=rf"trainjob\.{setting}: .*does not exist: apply the overlay"):
            started(step)


def test_a_step_that_may_not_look_at_runtimes_says_so(started, api):
    api.granted.discard(("get", "trainingruntimes"))
    with pytest.raises(LaunchError, match="cannot get trainingruntimes"):
        started("train")


@pytest.mark.parametrize(
    ("settings", "step", "runtime", "own_image"),
    [
        ([], "train", "fipo", False),
        (["trainjob.gpus_per_node=8"], "train", "fipo", True),
        (["rollout.engine=vllm"], "train", "fipo-vllm", True),
        (["rollout.engine=vllm"], "sft", "fipo", False),
        (["rollout.engine=served", "trainjob.rollout_runtime=''"], "evaluate", "fipo-vllm", True),
        (["rollout.engine=served"], "train", "fipo-rollouts", True),
        (["rollout.engine=served", "trainjob.gpus_per_node=8"], "doctor", "fipo", True),
    ],
)
def test_a_job_runs_in_an_image_that_holds_its_engine(settings, step, runtime, own_image, tmp_path):
    named = [f"trainjob.{name}=fipo{end}" for name, end in RUNTIMES.items()]
    config = load_config("demo", [f"run.directory={tmp_path}", *named, *settings])
    assert wanted_runtime(config, step)[1] == runtime
    limits = {"cpu": "2"}
    container = {"name": "node", "resources": {"limits": limits}}
    manifest = {"template": {"spec": {"template": {"spec": {"containers": [container]}}}}, "name": "node"}
    assert needs_its_image(config, step, {"spec": {"template": {"spec": {"replicatedJobs": [manifest]}}}}) == own_image
    limits["nvidia.com/gpu"] = "1"
    assert needs_its_image(config, step, {"spec": {"template": {"spec": {"replicatedJobs": [manifest]}}}})


@pytest.mark.parametrize("engine", ["vllm", "served"])
def test_an_engine_without_a_runtime_that_holds_it_is_refused_by_the_settings(engine, tmp_path):
    settings = [f"run.directory={tmp_path}", "trainjob.runtime=fipo", f"rollout.engine={engine}"]
    with pytest.raises(ConfigError, match=rf"trainjob.vllm_runtime: must be .*rollout.engine = {engine}"):
        load_config("paper-7b", settings)
    load_config("paper-7b", [*settings, "trainjob.vllm_runtime=mine"])
