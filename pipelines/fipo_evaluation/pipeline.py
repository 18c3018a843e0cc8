"""Any registered model on the benchmarks of a recipe.

configure -> doctor -> prepare -> sft (the model as it is) -> score
"""

from kfp import dsl

from fipo_kfp.components.configure.component import configure
from fipo_kfp.components.doctor.component import doctor
from fipo_kfp.components.finish.component import finish
from fipo_kfp.components.form import NOTHING
from fipo_kfp.components.prepare.component import prepare
from fipo_kfp.components.score.component import score
from fipo_kfp.components.sft.component import sft
from fipo_kfp.pipelines.fipo_training.pipeline import RUN
from fipo_kfp.pipelines.tasks import LARGE, place


@dsl.pipeline(name="fipo-evaluation", display_name="FIPO evaluation")
def fipo_evaluation(
    model: str = "fipo@champion",
    recipe: str = "demo",
    recipe_changes: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    run_gpus_per_node: int = 0,
    run_name: str = "evaluation",
):
    """Measure a registered model on a recipe's benchmarks.

    - `model`: the version, as `name@alias` or `name/version`
    - `recipe`: whose benchmarks and sampling
    - `recipe_changes`: settings that replace the recipe's, such as `["data.benchmarks=[aime-2024]"]`
    - `run_gpus_per_node`: GPUs of the job
    - `run_name`: names the results; another than a training's

    Args:
        model: The version, as `name@alias` or `name/version`.
        recipe: Whose benchmarks and sampling: name of a shipped recipe or path of a recipe file in the image.
        recipe_changes: Settings that replace the recipe's, each `key.path=value`.
        run_gpus_per_node: GPUs of the job; 0 is what the recipe says.
        run_name: Names the run in the object store and in MLflow; another than a training's.
    """
    asked = {"recipe": recipe, "recipe_changes": recipe_changes, "run_name": run_name, **RUN}
    with dsl.ExitHandler(place(finish(**asked), "close the run"), name="evaluation"):
        wanted = {"registered": model, "goal": "score", "run_gpus_per_node": run_gpus_per_node}
        settings = place(configure(**asked, **wanted), "configure")
        with dsl.If(settings.outputs["todo"] != NOTHING, name="steps"):
            run = {"recipe": recipe, "overrides": settings.outputs["overrides"]}
            looked = place(doctor(**run, todo=settings.outputs["todo"]), "look at the devices")
            data = place(prepare(**run).after(looked), "prepare data", **LARGE).outputs["dataset"]
            as_it_is = place(sft(**run, dataset=data), "model as it is").outputs["warmup_model"]
            place(score(**run, dataset=data, model=as_it_is), "score")
