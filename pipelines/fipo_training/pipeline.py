"""Raw problems to a registered reasoning model.

    configure -> prepare -> sft -> train -> evaluate -> gate -> register -> report

The edges are artifacts: what a step made and the next one reads. `finish` runs at the end, whatever happened.
"""

from kfp import dsl

from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finish.component import finish
from components.gate.component import gate
from components.prepare.component import prepare
from components.register.component import register
from components.report.component import report
from components.sft.component import sft
from components.train.component import train
from pipelines.tasks import place, place_job


@dsl.pipeline(name="fipo-training", display_name="FIPO training")
def fipo_training(
    recipe: str = "demo",
    overrides: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    run_name: str = "",
    data_uri: str = "",
    model_uri: str = "",
    gate_minimum: str = "",
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
    """Train a reasoning model with Future-KL Influenced Policy Optimization, from raw problems to the model registry.

    Empty parameters leave what the recipe, or the cluster's config map, says.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        run_name: Names the run in the object store and in MLflow; `nightly-[[ScheduledTime]]` in a schedule.
        data_uri: JSONL or parquet of problems to train on, with `prompt` and `answer`.
        model_uri: The model to start from, a name or a path.
        gate_minimum: Least value of the gate metric for promotion.
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
    services = {"run_name": run_name, "storage_uri": storage_uri, "tracking_uri": tracking_uri}
    secrets = {"storage_secret": storage_secret, "tracking_secret": tracking_secret, "hub_secret": hub_secret}
    pods = {"gpus": gpus_per_node, "cpu": cpus_per_node, "memory": memory_per_node}
    pods |= {"node_selector": node_selector, "tolerations": tolerations}
    end = place(finish(recipe=recipe, overrides=overrides, **services), secrets)
    with dsl.ExitHandler(end):
        resolved = place(
            configure(
                recipe=recipe,
                overrides=overrides,
                data_uri=data_uri,
                model_uri=model_uri,
                gate_minimum=gate_minimum,
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
        results = place_job(evaluate(**run, dataset=data, warmup=warmup, model=model), secrets, **pods).outputs[
            "results"
        ]
        decision = place(gate(**run, results=results), secrets).outputs["Output"]
        registered = place(register(**run, model=model, decision=decision), secrets).outputs["registered"]
        place(report(**run, results=results, registered=registered), secrets)
