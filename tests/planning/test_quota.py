"""The quota of a recipe is what its job, its servers and what stands beside them request."""

import pytest
import yaml

from fipo.cli import main
from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.planning import quota as module
from fipo.planning.quota import quota_manifest
from tests.k8s.test_manifests import load
from tests.k8s.test_quota import pods, standing
from tests.k8s.webhooks import quantity

SIZE = ["trainjob.cpus_per_node=64", "trainjob.memory_per_node=1500Gi", "trainjob.gpus_per_node=8", "trainjob.nodes=16"]


def hard(*settings, nodes=None, gpus=None, servers=None, recipe="demo"):
    return yaml.safe_load(quota_manifest(load_config(recipe, settings), nodes, gpus, servers))["spec"]["hard"]


@pytest.mark.parametrize("settings", [(), SIZE])
def test_the_papers_job_added_up_by_hand(settings):
    assert hard(*settings, recipe="paper-32b") == {
        "requests.cpu": "1040",  # 16 x 64, and 16 beside
        "requests.memory": "24064Gi",  # 16 x 1500, and 16 x 4
        "requests.nvidia.com/gpu": "128",
        "pods": "32",
    }


def test_rollout_servers_nodes_and_gpus_count():
    served = hard(*SIZE, "rollout.engine=served", nodes=2, gpus=4, servers=3)
    assert served == {
        "requests.cpu": "192",  # 2 x 64 + 3 x 16 + 16
        "requests.memory": "3832Gi",  # 2 x 1500 + 3 x 256 + 64
        "requests.nvidia.com/gpu": "32",  # 2 x 4 + 3 x 8
        "pods": "21",
    }


@pytest.mark.parametrize(
    ("written", "gib"), [("2Ti", 2048), ("1536Mi", 1.5), ("1Gi", 1), ("2G", 1.862645), ("'2147483648'", 2)]
)
def test_kubernetes_quantities(written, gib):
    found = hard(*SIZE[:1], f"trainjob.memory_per_node={written}", *SIZE[2:], nodes=1)
    assert quantity(found["requests.memory"]) / 1024**3 == int(gib + 64 + 0.9999)


def test_what_is_taken_for_given_is_what_the_overlays_say():
    """The servers' size and number; and beside a job is room for the tasks of several runs, MLflow and the reaper."""
    (servers,) = [
        entry["template"]["spec"]
        for item in load("gpu")
        if item["kind"] == "TrainingRuntime"
        for entry in item["spec"]["template"]["spec"]["replicatedJobs"]
        if entry["name"] == "rollout"
    ]
    assert servers["parallelism"] == module.SERVERS
    needed = pods(servers["template"]["spec"], 1)
    assert needed == {
        "pods": 1,
        "requests.cpu": module.SERVER_CPU,
        "requests.memory": module.SERVER_GIB * 1024**3,
        "requests.nvidia.com/gpu": module.SERVER_GPUS,
    }
    beside = standing(load("prod"))
    assert beside["pods"] <= module.BESIDE
    assert beside["requests.cpu"] <= module.BESIDE * module.BESIDE_CPU
    assert beside["requests.memory"] <= module.BESIDE * module.BESIDE_GIB * 1024**3


def test_a_recipe_that_does_not_say_what_a_node_requests_is_told_so():
    with pytest.raises(ConfigError, match=r"trainjob.cpus_per_node.*got 0.*--set"):
        hard()


def test_the_command_prints_a_manifest_and_asks_no_hub(capsys):
    main(["plan", "paper-32b", "--quota"])
    assert yaml.safe_load(capsys.readouterr().out)["spec"]["hard"]["pods"] == "32"
