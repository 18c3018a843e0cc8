"""The quota that is shipped lets the documented runs run: what they need, added up."""

import json
import re
import shlex
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fipo.config import load_config
from tests.k8s.test_manifests import OVERLAYS, load
from tests.k8s.webhooks import quantity

ROOT = Path(__file__).parents[2]
SIZES = {"paper-32b": {"nodes": 16, "gpus_per_node": 8, "cpus_per_node": 64, "memory_per_node": "1500Gi"}}
"""Of a job's pods, for recipes that do not say it themselves."""
TASKS = {"requests.cpu": 12, "requests.memory": 12 * 4 * 1024**3, "pods": 12}
"""Twelve pods of tasks at once, each with its helpers: several runs, or one with as many arms."""
RESOURCES = {"requests.cpu": "cpu", "requests.memory": "memory", "requests.nvidia.com/gpu": "nvidia.com/gpu"}
QUOTED = [name for name in OVERLAYS if any(item["kind"] == "ResourceQuota" for item in load(name))]


def documented():
    """Every `submit` to the namespace of its own in docs/deploy.md: recipe, settings, parameters."""
    text = (ROOT / "docs" / "deploy.md").read_text().replace("\\\n", " ")
    for command in re.findall(r"^python -m pipelines submit .*--namespace fipo .*$", text, re.MULTILINE):
        words = shlex.split(command)
        given = {flag: [value for name, value in pairwise(words) if name == flag] for flag in words}
        parameters = dict(pair.split("=", 1) for pair in given.get("--parameter", []))
        recipe = parameters.get("recipe") or given["--recipe"][0]
        settings = [*given.get("--set", []), *json.loads(parameters.get("recipe_changes", "[]"))]
        yield recipe, settings, parameters, command


def job(recipe, settings, parameters, runtimes):
    """What the pods of a run's largest job request."""
    config = load_config(recipe, settings)
    size: dict[str, Any] = {
        name: getattr(config.trainjob, name, None) or value for name, value in SIZES.get(recipe, {}).items()
    }
    size |= {
        name.removeprefix("run_"): value for name, value in parameters.items() if name.removeprefix("run_") in size
    }
    nodes = int(size["nodes"])
    needed: Any = Counter(pods=nodes)
    for name, setting in zip(RESOURCES, ("cpus_per_node", "memory_per_node", "gpus_per_node")):
        needed[name] += nodes * quantity(size[setting])
    if config.rollout.engine == "served":
        (servers,) = [entry for entry in runtimes if entry["name"] == "rollout"]
        template = servers["template"]["spec"]
        needed += pods(template["template"]["spec"], template["parallelism"])
    return needed


def pods(spec, count):
    """What so many pods request: the sum of the containers, or the largest init container."""
    needed = Counter(pods=count)
    for name, resource in RESOURCES.items():

        def of(container, resource=resource):
            resources = container["resources"]
            return quantity(resources["requests"].get(resource, resources["limits"].get(resource, 0)))

        together = sum(of(container) for container in spec["containers"])
        needed[name] = count * max([together, *(of(container) for container in spec.get("initContainers", []))])
    return needed


def standing(manifests):
    """What runs beside the jobs."""
    needed: Any = Counter(TASKS)
    for item in manifests:
        spec = item.get("spec", {})
        match item["kind"]:
            case "Deployment" | "StatefulSet":
                needed += pods(spec["template"]["spec"], spec["replicas"])
            case "PersistentVolumeClaim":
                needed["requests.storage"] += quantity(spec["resources"]["requests"]["storage"])
    return needed


@pytest.mark.parametrize("overlay", QUOTED)
def test_the_documented_runs_fit_into_the_quota(overlay):
    manifests = load(overlay)
    (hard,) = [item["spec"]["hard"] for item in manifests if item["kind"] == "ResourceQuota"]
    runtimes = [
        entry
        for item in manifests
        if item["kind"] == "TrainingRuntime"
        for entry in item["spec"]["template"]["spec"]["replicatedJobs"]
    ]
    runs = [run for run in documented() if run[0] in SIZES]
    assert runs, "docs/deploy.md has no run of a large recipe"
    for recipe, settings, parameters, command in runs:
        needed = standing(manifests) + job(recipe, settings, parameters, runtimes)
        assert needed["requests.nvidia.com/gpu"] >= 128
        for name, number in needed.items():
            assert number <= quantity(hard[name]), f"{command}\nneeds {name} {number}, and the quota is {hard[name]}"


def test_a_quota_names_everything_that_a_run_takes():
    assert QUOTED, "the overlays for a namespace of its own have a quota"
    for overlay in QUOTED:
        (hard,) = [item["spec"]["hard"] for item in load(overlay) if item["kind"] == "ResourceQuota"]
        assert hard.keys() == {*RESOURCES, "requests.storage", "pods"}
