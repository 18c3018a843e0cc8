"""Recipes, settings or seeds side by side, then a comparison of the trained models.

    each arm: configure -> prepare -> sft -> train -> evaluate
    all arms: compare

Nothing is registered: a winner is trained with `fipo_training`, where the gate sees it.
"""

from kfp import dsl

from components.compare.component import compare
from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finish.component import finish
from components.prepare.component import prepare
from components.sft.component import sft
from components.train.component import train
from pipelines.tasks import place, place_job

ARMS = ["fipo algorithm.loss=fipo", "dapo algorithm.loss=dapo"]


@dsl.pipeline(name="fipo-experiment", display_name="FIPO experiment")
def fipo_experiment(
    recipe: str = "demo",
    overrides: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    arms: list = ARMS,
    storage_uri: str = "",
    tracking_uri: str = "",
    storage_secret: str = "fipo",
    tracking_secret: str = "fipo",
    hub_secret: str = "fipo",
    nodes: int = 1,
    gpus_per_node: str = "0",
    cpus_per_node: str = "4",
    memory_per_node: str = "16Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
    queue: str = "",
):
    """Train several variants of a recipe and compare them on its benchmark.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that all arms share, each `key.path=value`.
        arms: What is compared, the baseline first: each the name of its run, and settings, separated by blanks.
        storage_uri: Object store for data, weights and results, such as `s3://bucket/prefix`.
        tracking_uri: MLflow tracking server.
        storage_secret: Name of the secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
        tracking_secret: Name of the secret with `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.
        hub_secret: Name of the secret with `HF_TOKEN`.
        nodes: Machines of a training job.
        gpus_per_node: GPUs of each.
        cpus_per_node: CPUs of each.
        memory_per_node: Memory of each.
        node_selector: Labels of the nodes for training jobs, such as `{"accelerator": "h200"}`.
        tolerations: Taints that they tolerate, as Kubernetes writes them; in place of those of the TrainingRuntime.
        queue: Kueue LocalQueue that admits the training jobs.
    """
    services = {"storage_uri": storage_uri, "tracking_uri": tracking_uri}
    secrets = {"storage_secret": storage_secret, "tracking_secret": tracking_secret, "hub_secret": hub_secret}
    pods = {"gpus": gpus_per_node, "cpu": cpus_per_node, "memory": memory_per_node}
    pods |= {"node_selector": node_selector, "tolerations": tolerations}
    end = place(finish(recipe=recipe, overrides=overrides, run_name="", arms=arms, **services), secrets)
    with dsl.ExitHandler(end):
        with dsl.ParallelFor(arms) as arm:
            resolved = place(
                configure(
                    recipe=recipe,
                    overrides=overrides,
                    arm=arm,
                    run_name="",
                    data_uri="",
                    model_uri="",
                    gate_minimum="",
                    nodes=nodes,
                    queue=queue,
                    **services,
                ),
                secrets,
            )
            run = {"recipe": recipe, "overrides": resolved.outputs["Output"]}
            data = place(prepare(**run), secrets, memory="32Gi", cache=True).outputs["dataset"]
            warmup = place_job(sft(**run, dataset=data), secrets, **pods).outputs["model"]
            model = place_job(train(**run, dataset=data, warmup=warmup), secrets, **pods).outputs["model"]
            measured = place_job(evaluate(**run, dataset=data, warmup=warmup, model=model), secrets, **pods)
        place(compare(recipe=recipe, overrides=overrides, results=dsl.Collected(measured.outputs["results"])), secrets)
