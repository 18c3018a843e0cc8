"""What people see of a pipeline in Kubeflow's UI, from the packages themselves.

The UI lists parameters in alphabetical order with type and default, and shows the description of the pipeline. The
graph has a box for each task, each group of tasks and each artifact. The page that compares runs lists every metric.
"""

import re
from collections import Counter

import pytest
import yaml

from fipo_kfp.pipelines.package import COMPILED, PIPELINES, description


@pytest.fixture(params=PIPELINES)
def name(request):
    return request.param


@pytest.fixture
def pipeline(name):
    return next(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text()))


def fields(pipeline):
    return pipeline["root"]["inputDefinitions"]["parameters"]


def groups(pipeline):
    """Tasks by the title of the group that shows them: the root, and what opens from it."""
    found, queue = {}, [("", pipeline["root"]["dag"])]
    for title, dag in queue:
        found[title] = dag["tasks"]
        for task in dag["tasks"].values():
            component = pipeline["components"][task["componentRef"]["name"]]
            if "dag" in component:
                queue.append((task["taskInfo"]["name"], component["dag"]))
    return found


def artifacts(pipeline):
    """Kinds by name of what each task leaves, by task; one that stands in two groups counts once."""
    return {
        name.removeprefix("comp-").removesuffix("-2"): {
            output: kind["artifactType"]["schemaTitle"]
            for output, kind in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        for name, component in pipeline["components"].items()
        if "executorLabel" in component
    }


def test_the_form_is_short_and_its_order_survives_sorting(pipeline, name):
    names = list(fields(pipeline))
    assert len(names) <= 8
    declared = list(PIPELINES[name].component_spec.inputs)
    assert declared == sorted(declared) == sorted(names)


def test_the_form_begins_with_what_matters():
    assert list(PIPELINES["fipo_training"].component_spec.inputs) == [
        "recipe",
        "recipe_changes",
        "recipe_data",
        "recipe_model",
        "run_gpus_per_node",
        "run_name",
        "run_nodes",
    ]


def test_nothing_of_the_platform_is_asked(pipeline):
    for field in fields(pipeline):
        assert not re.search("secret|uri|queue|selector|toleration|memory|cpu", field), field


def test_every_field_is_described_where_the_ui_shows_it(pipeline, name):
    text = pipeline["pipelineInfo"]["description"]
    for field, definition in fields(pipeline).items():
        assert f"`{field}`" in text, field  # bold, the page would take its underscores for emphasis
        assert definition["description"], field
    assert text in description(name), "what is uploaded says the same"
    assert "](https://" in description(name)
    assert 100 < len(description(name)) < 2000


def test_what_a_task_takes_is_described(pipeline):
    for component in pipeline["components"].values():
        if "executorLabel" in component:
            for group in component["inputDefinitions"].values():
                for name, entry in group.items():
                    assert "description" in entry or name == "status", f"{component['executorLabel']}: {name}"


def test_groups_say_what_they_are(pipeline):
    titles = [task["taskInfo"]["name"] for tasks in groups(pipeline).values() for task in tasks.values()]
    assert not [title for title in titles if re.search(r"-\d+$|^exit-handler|^condition|^for-loop", title)]
    assert len(titles) == len(set(titles))


def test_the_steps_of_a_training_stand_out():
    pipeline = next(yaml.safe_load_all((COMPILED / "fipo_training.yaml").read_text()))
    shown = {title: [task["taskInfo"]["name"] for task in tasks.values()] for title, tasks in groups(pipeline).items()}
    assert set(shown[""]) == {"training", "close the run"}
    assert set(shown["training"]) == {"configure", "steps"}
    assert set(shown["steps"]) == {
        "look at the devices",
        "prepare data",
        "SFT warm-up",
        "FIPO RL",
        "evaluate",
        "gate",
        "register",
        "report",
        "serving",
    }
    boxes = {task: len(kinds) for task, kinds in artifacts(pipeline).items()}
    assert sum(boxes.values()) - boxes["configure"] - boxes["deploy"] - boxes["doctor"] <= 12, (
        "with 19 the eight steps drowned"
    )


def test_a_task_leaves_one_artifact_of_a_kind_and_no_two_tasks_one_of_the_same_name(pipeline):
    for task, kinds in artifacts(pipeline).items():
        assert max(Counter(kinds.values()).values(), default=1) == 1, f"{task}: {kinds}"
    names = Counter(output for kinds in artifacts(pipeline).values() for output in kinds)
    assert max(names.values()) == 1, names


def test_only_scores_are_metrics(pipeline):
    """The page that compares runs shows all metrics of all tasks: those of housekeeping would hide the result."""
    metrics = {task for task, kinds in artifacts(pipeline).items() if "system.Metrics" in kinds.values()}
    assert metrics <= {"evaluate", "score", "compare"}
