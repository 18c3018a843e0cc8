import os
import subprocess
import sys

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from kfp.dsl import TaskConfigField as Field
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType, PipelineSpec, PlatformSpec

from fipo_kfp.pipelines.package import COMPILED, PIPELINES, compile_pipeline
from fipo_kfp.pipelines.tasks import SECRET

STEPS = ["prepare", "sft", "train", "evaluate", "gate", "register", "report"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return compile_pipeline("fipo_training", tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def spec(package):
    pipeline, _ = yaml.safe_load_all(package.read_text())
    return ParseDict(pipeline, PipelineSpec())  # refuses unknown fields


@pytest.fixture(scope="module")
def platform(package):
    _, document = yaml.safe_load_all(package.read_text())
    ParseDict(document, PlatformSpec())
    executors = document["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name: ParseDict(executor, KubernetesExecutorConfig()) for name, executor in executors.items()}


def handled(spec):
    """What the exit handler waits for: the settings, and the steps where any is to be done."""
    return spec.components["comp-exit-handler-1"].dag.tasks


def body(spec):
    """The tasks of the run."""
    (steps,) = [task for task in handled(spec).values() if task.trigger_policy.condition]
    tasks = dict(spec.components[steps.component_ref.name].dag.tasks)
    (serving,) = [name for name, task in tasks.items() if task.trigger_policy.condition]
    inner = spec.components[tasks.pop(serving).component_ref.name].dag.tasks
    return {"configure": handled(spec)["configure"], **tasks, **inner}


def test_compiling_again_gives_the_same_bytes(tmp_path):
    command = [sys.executable, "-m", "pipelines", "compile", "--output", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True)
    for name in PIPELINES:
        assert (tmp_path / f"{name}.yaml").read_bytes() == (COMPILED / f"{name}.yaml").read_bytes()


@pytest.mark.parametrize("name", PIPELINES)
def test_committed_packages_are_current(name, tmp_path):
    written = (COMPILED / f"{name}.yaml").read_text()
    assert written == compile_pipeline(name, tmp_path).read_text(), "run: python -m pipelines compile"


def test_every_step_is_a_task_and_waits_for_what_it_reads(spec):
    upstream = {name: set(task.dependent_tasks) for name, task in body(spec).items()}
    assert upstream == {
        "configure": set(),
        "doctor": set(),  # the condition around them waits for the settings
        "prepare": {"doctor"},  # nothing begins on machines that are not well
        "sft": {"prepare"},
        "train": {"prepare", "sft"},
        "evaluate": {"prepare", "sft", "train"},
        "gate": {"evaluate"},
        "register": {"train", "gate"},
        "report": {"evaluate", "register"},
        "deploy": set(),  # the condition around it waits for the registered model
    }


def test_nothing_is_started_where_nothing_is_to_be_done(spec):
    steps = handled(spec)["condition-2"]
    assert list(steps.dependent_tasks) == ["configure"]
    assert steps.trigger_policy.condition == "inputs.parameter_values['pipelinechannel--configure-todo'] != 'nothing'"
    assert handled(spec).keys() == {"configure", "condition-2"}


@pytest.mark.parametrize("name", PIPELINES)
def test_kubeflow_caches_nothing(name):
    """It knows inputs by their names; fipo knows them by what they hold."""
    pipeline, _ = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text())
    spec = ParseDict(pipeline, PipelineSpec())
    dags = [spec.root.dag, *(component.dag for component in spec.components.values())]
    tasks = [task for dag in dags for task in dag.tasks.values()]
    assert not any(task.caching_options.enable_cache for task in tasks)


def test_finish_runs_whatever_happened(spec):
    finish = spec.root.dag.tasks["finish"]
    assert finish.trigger_policy.strategy == finish.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED
    assert finish.inputs.parameters["status"].task_final_status.producer_task == "exit-handler-1"


@pytest.mark.parametrize("name", PIPELINES)
def test_every_parameter_of_a_task_is_handed_in(name):
    """A cluster's driver finds what the enclosing groups were given, and nothing else."""
    pipeline, _ = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text())
    spec = ParseDict(pipeline, PipelineSpec())
    groups = [(spec.root.dag, set(spec.root.input_definitions.parameters))]
    groups += [(part.dag, set(part.input_definitions.parameters)) for part in spec.components.values()]
    for dag, handed_in in groups:
        for task_name, task in dag.tasks.items():
            for parameter, source in task.inputs.parameters.items():
                assert source.component_input_parameter in handed_in | {""}, f"{task_name}: {parameter}"


def test_sizes_are_constants(spec):
    """A job's size is a setting. kfp hands resources that are parameters on as placeholders that nobody fills in."""
    for label, executor in spec.deployment_spec["executors"].items():
        resources = executor["container"]["resources"]
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources.keys()), label
        assert not any("{{" in str(value) for value in resources.values()), label


def test_what_a_job_needs_is_passed_on(spec):
    """Settings, credentials and the volume; the task itself needs these as well."""
    for step in ("doctor", "sft", "train", "evaluate"):
        passed = {
            entry.field: entry.apply_to_task for entry in spec.components[f"comp-{step}"].task_config_passthroughs
        }
        assert passed == dict.fromkeys((Field.ENV, Field.KUBERNETES_VOLUMES, Field.RESOURCES), True), step
    assert not spec.components["comp-prepare"].task_config_passthroughs


def test_every_task_gets_settings_credentials_and_the_volume_by_reference(platform):
    assert platform.keys() == {f"exec-{step}" for step in [*STEPS, "configure", "doctor", "deploy", "finish"]}
    for name, executor in platform.items():
        (secret,) = executor.secret_as_env
        assert (secret.secret_name, secret.optional) == ("fipo", True), name
        assert tuple(key.secret_key for key in secret.key_to_env) == SECRET, name
        assert all(key.env_var == key.secret_key for key in secret.key_to_env), name
        assert [mount.mount_path for mount in executor.pvc_mount] == ["/runs"], name
        assert executor.config_map_as_env[0].config_map_name == "fipo", name


def test_lost_tasks_are_repeated_with_back_off(spec):
    """Which failures count is for Kubeflow's workflow defaults: `retryPolicy: OnError`, infrastructure alone."""
    for name, task in {**body(spec), "finish": spec.root.dag.tasks["finish"]}.items():
        retry = task.retry_policy
        assert (retry.max_retry_count, retry.backoff_duration.seconds, retry.backoff_factor) == (3, 30, 2.0), name
        # Argo counts it from the start of the first attempt: no attempt after it, and the one that runs then is ended.
        assert retry.backoff_max_duration.seconds >= 30 * 24 * 3600, name


def test_tasks_install_nothing(spec):
    for executor in spec.deployment_spec["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


@pytest.mark.parametrize("name", PIPELINES)
def test_what_kfp_local_would_run_differently_is_not_used(name):
    """Importers, container components, loops over a named output: see docs/deploy.md. `pipelines.local` takes the one
    kind of condition out."""
    pipeline, *_ = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text())
    spec = ParseDict(pipeline, PipelineSpec())
    for component in spec.components.values():
        for parameter, definition in component.input_definitions.parameters.items():
            if parameter.endswith("-loop-item"):  # a cluster hands on a dictionary as its JSON text, kfp.local as it is
                assert definition.parameter_type == ParameterType.STRING
        for task_name, task in component.dag.tasks.items():
            allowed = task.trigger_policy.condition or "configure-todo"
            assert "configure-todo" in allowed or "configure-serve" in allowed, f"{name}/{task_name}"
            assert not task.HasField("artifact_iterator"), f"{name}/{task_name} loops over artifacts"
            for source in task.inputs.parameters.values():
                picked = source.parameter_expression_selector  # by name from an item: both do it, and a run tests it
                assert not picked or name == "fipo_study", f"{name}/{task_name} picks from a loop item"
            items = task.parameter_iterator.items.input_parameter
            output = any(f"-{name}" in items for name in ("overrides", "todo", "serve", "Output"))
            assert not output and items.count("--") <= 1, f"{name}/{task_name} loops over an output"
    for label, executor in spec.deployment_spec["executors"].items():
        assert "kfp.dsl.executor_main" in " ".join(executor["container"]["command"]), f"{label} is no Python component"
        assert "from __future__" not in " ".join(executor["container"]["command"]), label


def test_a_comparison_compares_what_its_arms_measured():
    pipeline, *_ = yaml.safe_load_all((COMPILED / "fipo_comparison.yaml").read_text())
    body = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (loop,) = body["compare"]["dependentTasks"]
    arms = pipeline["components"][f"comp-{loop}"]["dag"]["tasks"]
    assert set(arms) == {"configure", "doctor", "prepare", "sft", "train", "evaluate"}


@pytest.mark.parametrize("name", PIPELINES)
def test_packages_are_what_the_cluster_parses(name):
    pipeline, platform = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text())
    ParseDict(pipeline, PipelineSpec())
    ParseDict(platform, PlatformSpec())
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        ParseDict(executor, KubernetesExecutorConfig())


def test_kubeflow_gives_tasks_no_account_of_their_own():
    """Should this fail, it can by now, and the right to make TrainJobs should go to those alone that make them."""
    from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig

    assert not [field.name for field in KubernetesExecutorConfig.DESCRIPTOR.fields if "account" in field.name]


def test_the_trials_of_a_study_run_side_by_side_once_all_are_warmed_up():
    pipeline, *_ = yaml.safe_load_all((COMPILED / "fipo_study.yaml").read_text())
    tasks = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    warmups, trials = (name for name, task in tasks.items() if "parameterIterator" in task)
    assert not any("iteratorPolicy" in tasks[loop] for loop in (warmups, trials)), "nothing limits how many at once"
    assert tasks["ready"]["dependentTasks"] == [warmups] and "ready" in tasks[trials]["dependentTasks"]
    assert tasks["compare"]["dependentTasks"] == [trials]
    inside = pipeline["components"][f"comp-{trials}"]["dag"]["tasks"]
    assert {name.removesuffix("-2") for name in inside} == {
        "configure", "doctor", "prepare", "sft", "train", "evaluate",
    }  # fmt: skip


def test_the_devices_are_looked_at_before_each_training_of_a_study():
    pipeline, *_ = yaml.safe_load_all((COMPILED / "fipo_study.yaml").read_text())
    loops = [component["dag"]["tasks"] for name, component in pipeline["components"].items() if "for-loop" in name]
    assert len(loops) == 2
    for tasks in loops:
        (looked,) = (name for name in tasks if name.startswith("doctor"))
        (data,) = (task for name, task in tasks.items() if name.startswith("prepare"))
        assert looked in data["dependentTasks"]
