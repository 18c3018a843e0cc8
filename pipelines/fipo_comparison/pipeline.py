"""Ways to train side by side, over seeds, then a comparison of the trained models.

    each warm-up:            configure -> prepare -> sft
    each arm on each of them:             configure -> prepare -> sft -> train -> evaluate
    all of them:                                                                            compare

The arms of a seed start from the same warmed-up model, as in `fipo study run`: what an arm has in common with its
warm-up it takes from there. Nothing is registered: a winner is trained with `fipo_training`, where the gate sees it.
"""

from kfp import dsl

from fipo_kfp.components.compare.component import compare
from fipo_kfp.components.configure.component import configure
from fipo_kfp.components.evaluate.component import evaluate
from fipo_kfp.components.finish.component import finish
from fipo_kfp.components.prepare.component import prepare
from fipo_kfp.components.sft.component import sft
from fipo_kfp.components.train.component import train
from fipo_kfp.pipelines.fipo_training.pipeline import RUN
from fipo_kfp.pipelines.tasks import LARGE, place

ARMS = ["fipo algorithm.loss=fipo", "dapo algorithm.loss=dapo"]
WARMUPS = [""]


@dsl.pipeline(name="fipo-comparison", display_name="FIPO comparison")
def fipo_comparison(
    arms: list = ARMS,
    warmups: list = WARMUPS,
    study: str = "",
    recipe: str = "demo",
    recipe_changes: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    run_gpus_per_node: int = 0,
    run_nodes: int = 0,
):
    """Train several variants of a recipe, over seeds, and compare them on its benchmark.

    - **arms**: what is compared, the baseline first: each a name, and settings, separated by blanks
    - **warmups**: what the arms share, once a seed: `["s1 run.seed=1", "s2 run.seed=2"]`; as it is, the recipe alone
    - **study**: a study's file, whose outcome is judged; `pipelines submit --study FILE` fills in all of these
    - **recipe**: `demo`, `paper-7b`, `paper-32b`, or the path of a file in the image
    - **recipe_changes**: settings that all arms share
    - **run_gpus_per_node**, **run_nodes**: GPUs of each machine, and machines of a training job

    Args:
        arms: What is compared, the baseline first: each a name, and settings, separated by blanks.
        warmups: What the arms share, once a seed: each a name, and settings.
        study: A study's file as text, whose outcome is judged over the seeds.
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        recipe_changes: Settings that all arms share, each `key.path=value`.
        run_gpus_per_node: GPUs of each machine; 0 is what the recipe says.
        run_nodes: Machines of a training job; 0 is what the recipe says.
    """
    asked = {"recipe": recipe, "recipe_changes": recipe_changes, "run_name": "", **RUN}
    size = {"run_nodes": run_nodes, "run_gpus_per_node": run_gpus_per_node}
    with dsl.ExitHandler(place(finish(**asked, arms=arms, warmups=warmups), "close the runs"), name="comparison"):
        with dsl.ParallelFor(warmups, name="warm-up") as warmup:
            settings = place(configure(**asked, **size, warmup=warmup, goal="sft"), "configure the warm-up")
            shared = {"recipe": recipe, "overrides": settings.outputs["overrides"]}
            data = place(prepare(**shared), "prepare data", **LARGE)
            warmed_up = place(sft(**shared, dataset=data.outputs["dataset"]), "SFT warm-up")
            with dsl.ParallelFor(arms, name="arm") as arm:
                own = configure(**asked, **size, warmup=warmup, arm=arm, goal="evaluate").after(warmed_up)
                run = {"recipe": recipe, "overrides": place(own, "configure").outputs["overrides"]}
                data = place(prepare(**run), "the arm's data", **LARGE).outputs["dataset"]
                model = place(sft(**run, dataset=data), "the arm's warm-up").outputs["warmup_model"]
                trained = place(train(**run, dataset=data, warmup_model=model), "FIPO RL").outputs["trained_model"]
                models = {"warmup_model": model, "trained_model": trained}
                measured = place(evaluate(**run, dataset=data, **models), "evaluate").outputs["results"]
        compared = {"recipe": recipe, "recipe_changes": recipe_changes, "study": study}
        place(compare(**compared, results=dsl.Collected(measured)), "compare")
