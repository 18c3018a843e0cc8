"""Raw problems to a registered reasoning model.

    configure -> doctor -> prepare -> sft -> train -> evaluate -> gate -> register -> report (-> deploy)

The edges are artifacts: what a step made and the next one reads. `configure` knows which steps are done already; where
all are, nothing else is started. `deploy` serves the champion where `deploy.enabled` says so. `finish` runs at the end,
whatever happened.
"""

from kfp import dsl

from fipo_kfp.components.configure.component import configure
from fipo_kfp.components.deploy.component import deploy
from fipo_kfp.components.doctor.component import doctor
from fipo_kfp.components.evaluate.component import evaluate
from fipo_kfp.components.finish.component import finish
from fipo_kfp.components.form import NOTHING, YES
from fipo_kfp.components.gate.component import gate
from fipo_kfp.components.prepare.component import prepare
from fipo_kfp.components.register.component import register
from fipo_kfp.components.report.component import report
from fipo_kfp.components.sft.component import sft
from fipo_kfp.components.train.component import train
from fipo_kfp.pipelines.tasks import LARGE, place

RUN = {"created": dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER, "run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}


@dsl.pipeline(name="fipo-training", display_name="FIPO training")
def fipo_training(
    recipe: str = "demo",
    recipe_changes: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    recipe_data: str = "",
    recipe_model: str = "",
    run_gpus_per_node: int = 0,
    run_name: str = "",
    run_nodes: int = 0,
):
    """Train a reasoning model with FIPO (Future-KL Influenced Policy Optimization), from raw problems to the registry.

    Data preparation, SFT warm-up, RL, evaluation before and after, a gate, registration, and a report to read at the
    end. Finished steps are reused. What is left empty, or 0, is as the recipe says.

    - `recipe`: `demo`, `paper-7b`, `paper-32b`, or the path of a file in the image
    - `recipe_changes`: settings that replace the recipe's, such as `["train.learning_rate=3e-6"]`
    - `recipe_data`: your problems, JSONL, CSV or parquet with `prompt` and `answer`, such as `s3://bucket/problems.jsonl`
    - `recipe_model`: where to start from: a name, a path, or `models:/fipo@champion`
    - `run_gpus_per_node`: GPUs of each machine
    - `run_name`: names the results; the same name again reuses them; `nightly-{time}` is a new one each time
    - `run_nodes`: machines of the training job

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        recipe_changes: Settings that replace the recipe's, each `key.path=value`.
        recipe_data: JSONL, CSV or parquet of problems to train on, with `prompt` and `answer`.
        recipe_model: The model to start from: a name, a path, or a registered version as `models:/fipo@champion`.
        run_gpus_per_node: GPUs of each machine; 0 is what the recipe says.
        run_name: Names the run in the object store and in MLflow; `nightly-{time}` in a schedule.
        run_nodes: Machines of a training job; 0 is what the recipe says.
    """
    asked = {"recipe": recipe, "recipe_changes": recipe_changes, "run_name": run_name, **RUN}
    with dsl.ExitHandler(place(finish(**asked), "close the run"), name="training"):
        form = {"recipe_data": recipe_data, "recipe_model": recipe_model, "run_nodes": run_nodes}
        settings = place(configure(**asked, **form, run_gpus_per_node=run_gpus_per_node), "configure")
        with dsl.If(settings.outputs["todo"] != NOTHING, name="steps"):
            run = {"recipe": recipe, "overrides": settings.outputs["overrides"]}
            looked = place(doctor(**run, todo=settings.outputs["todo"]), "look at the devices")
            data = place(prepare(**run).after(looked), "prepare data", **LARGE).outputs["dataset"]
            warmup = place(sft(**run, dataset=data), "SFT warm-up").outputs["warmup_model"]
            trained = place(train(**run, dataset=data, warmup_model=warmup), "FIPO RL").outputs["trained_model"]
            models = {"warmup_model": warmup, "trained_model": trained}
            results = place(evaluate(**run, dataset=data, **models), "evaluate").outputs["results"]
            decision = place(gate(**run, results=results), "gate").outputs["Output"]
            registered = place(register(**run, trained_model=trained, decision=decision), "register")
            shown = {"results": results, "registered_model": registered.outputs["registered_model"]}
            place(report(**run, **shown), "report")
            with dsl.If(settings.outputs["serve"] == YES, name="serving"):
                place(deploy(**run, registered_model=shown["registered_model"]), "deploy")
