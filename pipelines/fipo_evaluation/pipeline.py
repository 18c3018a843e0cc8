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
    storage_secret: str = "fipo",
    tracking_secret: str = "fipo",
    hub_secret: str = "fipo",
    gpus_per_node: str = "0",
    cpus_per_node: str = "4",
    memory_per_node: str = "16Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
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
        storage_secret: Name of the secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
        tracking_secret: Name of the secret with `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.
        hub_secret: Name of the secret with `HF_TOKEN`.
        gpus_per_node: GPUs of the job.
        cpus_per_node: CPUs of the job.
        memory_per_node: Memory of the job.
        node_selector: Labels of the nodes for training jobs, such as `{"accelerator": "h200"}`.
        tolerations: Taints that they tolerate, as Kubernetes writes them; in place of those of the TrainingRuntime.
        queue: Kueue LocalQueue that admits the job.
    """
    services = {"run_name": run_name, "storage_uri": storage_uri, "tracking_uri": tracking_uri}
    secrets = {"storage_secret": storage_secret, "tracking_secret": tracking_secret, "hub_secret": hub_secret}
    pods = {"gpus": gpus_per_node, "cpu": cpus_per_node, "memory": memory_per_node}
    pods |= {"node_selector": node_selector, "tolerations": tolerations}
    end = place(finish(recipe=recipe, overrides=overrides, **services), secrets)
    with dsl.ExitHandler(end):
        unused = {"data_uri": "", "model_uri": "", "gate_minimum": "", "nodes": 1}
        asked = configure(recipe=recipe, overrides=overrides, queue=queue, **unused, **services)
        settings = place(asked, secrets).outputs["Output"]
        fetched = place(fetch(recipe=recipe, overrides=settings, model=model), secrets)
        run = {"recipe": recipe, "overrides": fetched.outputs["Output"]}
        data = place(prepare(**run), secrets, memory="32Gi", cache=True).outputs["dataset"]
        as_it_is = place_job(sft(**run, dataset=data), secrets, **pods).outputs["model"]
        place_job(score(**run, dataset=data, model=as_it_is), secrets, **pods)
