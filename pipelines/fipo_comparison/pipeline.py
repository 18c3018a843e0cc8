"""Recipes, settings or seeds side by side, then a comparison of the trained models.

    each arm: configure -> doctor -> prepare -> sft -> train -> evaluate
    all arms: compare

Nothing is registered: a winner is trained with `fipo_training`, where the gate sees it.
"""

from kfp import dsl

from fipo_kfp.components.compare.component import compare
from fipo_kfp.components.configure.component import configure
from fipo_kfp.components.doctor.component import doctor
from fipo_kfp.components.evaluate.component import evaluate
from fipo_kfp.components.finish.component import finish
from fipo_kfp.components.prepare.component import prepare
from fipo_kfp.components.sft.component import sft
from fipo_kfp.components.train.component import train
from fipo_kfp.pipelines.fipo_training.pipeline import RUN
from fipo_kfp.pipelines.tasks import LARGE, place

ARMS = ["fipo algorithm.loss=fipo", "dapo algorithm.loss=dapo"]


@dsl.pipeline(name="fipo-comparison", display_name="FIPO comparison")
def fipo_comparison(
    arms: list = ARMS,
    recipe: str = "demo",
    recipe_changes: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    run_gpus_per_node: int = 0,
    run_nodes: int = 0,
):
    """Train several variants of a recipe and compare them on its benchmark.

    - `arms`: what is compared, the baseline first: each the name of its run, and settings, separated by blanks
    - `recipe`: `demo`, `paper-7b`, `paper-32b`, or the path of a file in the image
    - `recipe_changes`: settings that all arms share
    - `run_gpus_per_node`, `run_nodes`: GPUs of each machine, and machines of a training job

    Args:
        arms: What is compared, the baseline first: each the name of its run, and settings, separated by blanks.
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        recipe_changes: Settings that all arms share, each `key.path=value`.
        run_gpus_per_node: GPUs of each machine; 0 is what the recipe says.
        run_nodes: Machines of a training job; 0 is what the recipe says.
    """
    asked = {"recipe": recipe, "recipe_changes": recipe_changes, "run_name": "", **RUN}
    with dsl.ExitHandler(place(finish(**asked, arms=arms), "close the runs"), name="comparison"):
        with dsl.ParallelFor(arms, name="arm") as arm:
            size = {"run_nodes": run_nodes, "run_gpus_per_node": run_gpus_per_node}
            settings = place(configure(**asked, **size, arm=arm, goal="evaluate"), "configure")
            run = {"recipe": recipe, "overrides": settings.outputs["overrides"]}
            looked = place(doctor(**run, todo=settings.outputs["todo"]), "look at the devices")
            data = place(prepare(**run).after(looked), "prepare data", **LARGE).outputs["dataset"]
            warmup = place(sft(**run, dataset=data), "SFT warm-up").outputs["warmup_model"]
            trained = place(train(**run, dataset=data, warmup_model=warmup), "FIPO RL").outputs["trained_model"]
            models = {"warmup_model": warmup, "trained_model": trained}
            measured = place(evaluate(**run, dataset=data, **models), "evaluate").outputs["results"]
        shared = {"recipe": recipe, "recipe_changes": recipe_changes}
        place(compare(**shared, results=dsl.Collected(measured)), "compare")
