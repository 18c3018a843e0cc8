"""The trials of a study side by side, then its verdicts.

    each warm-up: configure -> doctor -> prepare -> sft
    when all are there: ready
    each trial:         configure -> doctor -> prepare -> sft -> train -> evaluate
    all of them:        compare

The arms of a seed start from the same warmed-up model, as in `fipo study run`: what a trial has in common with its
warm-up it takes from there. Both lists are parameters, and neither loop stands inside the other: that is what a run
without a cluster can do too. Nothing is registered.
"""

from kfp import dsl

from fipo_kfp.components.compare.component import compare
from fipo_kfp.components.configure.component import configure
from fipo_kfp.components.doctor.component import doctor
from fipo_kfp.components.evaluate.component import evaluate
from fipo_kfp.components.finish.component import finish
from fipo_kfp.components.prepare.component import prepare
from fipo_kfp.components.ready.component import ready
from fipo_kfp.components.sft.component import sft
from fipo_kfp.components.train.component import train
from fipo_kfp.pipelines.fipo_training.pipeline import RUN
from fipo_kfp.pipelines.tasks import LARGE, place


@dsl.pipeline(name="fipo-study", display_name="FIPO study")
def fipo_study(
    recipe: str = "demo",
    recipe_changes: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    run_gpus_per_node: int = 0,
    run_nodes: int = 0,
    study: str = "",
    trials: list = [],  # noqa: B006
    warmups: list = [],  # noqa: B006
):
    """Train every arm of a study with every seed, and say what the differences are worth.

    `python -m pipelines submit --study FILE` fills in the study, its trials and warm-ups, and the recipe.

    - `recipe`: of the study's first task
    - `recipe_changes`: settings that all trials share
    - `run_gpus_per_node`, `run_nodes`: GPUs of each machine, and machines of a training job
    - `study`: the study's file
    - `trials`: each training: its recipe, its settings (`arm`) and those of its warm-up
    - `warmups`: what the arms of a seed share: recipe and settings

    Args:
        recipe: Of the study's first task: it says where the verdicts find MLflow.
        recipe_changes: Settings that all trials share, each `key.path=value`.
        run_gpus_per_node: GPUs of each machine; 0 is what the recipe says.
        run_nodes: Machines of a training job; 0 is what the recipe says.
        study: The study's file as text.
        trials: Each training, with `recipe`, `arm` (the name of the run, and settings) and `warmup`.
        warmups: What the arms of a seed share, each with `recipe` and `arm`.
    """
    size = {"run_nodes": run_nodes, "run_gpus_per_node": run_gpus_per_node}
    asked = {"recipe_changes": recipe_changes, "run_name": "", **RUN}
    with dsl.ExitHandler(place(finish(recipe=recipe, **asked, runs=trials), "close the runs"), name="study"):
        with dsl.ParallelFor(warmups, name="warm-up") as one:
            first = place(configure(recipe=one.recipe, **asked, **size, arm=one.arm, goal="sft"), "configure warm-up")
            run = {"recipe": one.recipe, "overrides": first.outputs["overrides"]}
            looked = place(doctor(**run, todo=first.outputs["todo"]), "look at the devices")
            data = place(prepare(**run).after(looked), "prepare data", **LARGE).outputs["dataset"]
            model = place(sft(**run, dataset=data), "SFT warm-up").outputs["warmup_model"]
        all_there = place(ready(models=dsl.Collected(model)), "all are warmed up")
        with dsl.ParallelFor(trials, name="trial") as one:
            own = configure(recipe=one.recipe, **asked, **size, arm=one.arm, warmup=one.warmup, goal="evaluate")
            run = {"recipe": one.recipe, "overrides": place(own.after(all_there), "configure").outputs["overrides"]}
            looked = place(doctor(**run, todo=own.outputs["todo"]), "look at its devices")
            data = place(prepare(**run).after(looked), "its data", **LARGE).outputs["dataset"]
            model = place(sft(**run, dataset=data), "its warm-up").outputs["warmup_model"]
            trained = place(train(**run, dataset=data, warmup_model=model), "FIPO RL").outputs["trained_model"]
            models = {"warmup_model": model, "trained_model": trained}
            measured = place(evaluate(**run, dataset=data, **models), "evaluate").outputs["results"]
        judged = compare(recipe=recipe, recipe_changes=recipe_changes, results=dsl.Collected(measured), study=study)
        place(judged, "compare")
