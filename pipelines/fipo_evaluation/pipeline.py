"""Any registered model on the benchmarks of a recipe.

configure -> fetch -> prepare -> sft (the model as it is) -> score
"""

from kfp import dsl

from components.configure.component import configure
from components.fetch.component import fetch
from components.finish.component import finish
from components.prepare.component import prepare
from components.score.component import score
from components.sft.component import sft
from pipelines.tasks import place, place_job


@dsl.pipeline(name="fipo-evaluation", display_name="FIPO evaluation")
def fipo_evaluation(
    model: str = "fipo@champion",
    recipe: str = "demo",
    overrides: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    run_name: str = "evaluation",
    storage_uri: str = "",
    tracking_uri: str = "",
    secret: str = "fipo",
    gpus_per_node: str = "0",
    cpus_per_node: str = "4",
    memory_per_node: str = "16Gi",
    queue: str = "",
):
    """Measure a registered model.

    Args:
        model: The version, as `name@alias` or `name/version`.
        recipe: Whose benchmarks and sampling: name of a shipped recipe or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        run_name: Names the run in the object store and in MLflow; another than a training's.
        storage_uri: Object store for data and results, such as `s3://bucket/prefix`.
        tracking_uri: MLflow tracking server.
        secret: Name of the secret with the credentials of the object store, MLflow and the model hub.
        gpus_per_node: GPUs of the job.
        cpus_per_node: CPUs of the job.
        memory_per_node: Memory of the job.
        queue: Kueue LocalQueue that admits the job.
    """
    services = {"run_name": run_name, "storage_uri": storage_uri, "tracking_uri": tracking_uri}
    size = {"gpus": gpus_per_node, "cpu": cpus_per_node, "memory": memory_per_node}
    end = place(finish(recipe=recipe, overrides=overrides, **services), secret)
    with dsl.ExitHandler(end):
        unused = {"data_uri": "", "model_uri": "", "gate_minimum": "", "nodes": 1}
        asked = configure(recipe=recipe, overrides=overrides, queue=queue, **unused, **services)
        settings = place(asked, secret).outputs["Output"]
        fetched = place(fetch(recipe=recipe, overrides=settings, model=model), secret)
        run = {"recipe": recipe, "overrides": fetched.outputs["Output"]}
        data = place(prepare(**run), secret, cpu="4", memory="16Gi", cache=True).outputs["dataset"]
        as_it_is = place_job(sft(**run, dataset=data), secret, **size).outputs["model"]
        place_job(score(**run, dataset=data, model=as_it_is), secret, **size)
