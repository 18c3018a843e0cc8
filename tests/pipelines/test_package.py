import os
import subprocess
import sys

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines.package import compile_pipeline

STEPS = ["prepare", "sft", "train", "evaluate", "gate", "register", "report"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compile_pipeline(path)
    return path


@pytest.fixture(scope="module")
def spec(package):
    (document,) = yaml.safe_load_all(package.read_text())
    return ParseDict(document, PipelineSpec())  # refuses unknown fields


def body(spec):
    return spec.components["comp-exit-handler-1"].dag.tasks


def test_compiling_again_gives_the_same_bytes(package, tmp_path):
    again = tmp_path / "again.yaml"
    command = [sys.executable, "-m", "pipelines", "compile", "--output", str(again)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True)
    assert again.read_bytes() == package.read_bytes()


def test_every_step_is_a_task_and_waits_for_what_it_reads(spec):
    upstream = {name: set(task.dependent_tasks) for name, task in body(spec).items()}
    assert upstream == {
        "prepare": set(),
        "sft": {"prepare"},
        "train": {"prepare", "sft"},
        "evaluate": {"prepare", "sft", "train"},
        "gate": {"evaluate"},
        "register": {"train", "gate"},
        "report": {"evaluate", "register"},
    }


def test_only_prepare_may_be_cached(spec):
    assert [name for name in STEPS if body(spec)[name].caching_options.enable_cache] == ["prepare"]


def test_finish_runs_whatever_happened(spec):
    finish = spec.root.dag.tasks["finish"]
    assert finish.trigger_policy.strategy == finish.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED
    assert finish.inputs.parameters["status"].task_final_status.producer_task == "exit-handler-1"


def test_few_parameters(spec):
    assert set(spec.root.input_definitions.parameters) == {"recipe", "overrides"}


def test_tasks_install_nothing(spec):
    for executor in spec.deployment_spec["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_what_kfp_local_would_run_differently_is_not_used(spec):
    """Conditions without an else, importers and container components: see docs/deploy.md."""
    for name, component in spec.components.items():
        for task_name, task in component.dag.tasks.items():
            assert not task.trigger_policy.condition, f"{name}/{task_name} is conditional"
    for name, executor in spec.deployment_spec["executors"].items():
        assert "kfp.dsl.executor_main" in " ".join(executor["container"]["command"]), f"{name} is no Python component"
        assert "from __future__" not in " ".join(executor["container"]["command"]), name
