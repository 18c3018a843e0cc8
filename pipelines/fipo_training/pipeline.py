"""Raw problems to a registered reasoning model.

    prepare -> sft -> train -> evaluate -> gate -> register -> report

The edges are artifacts: what a step made and the next one reads. `finish` runs at the end, whatever happened.
"""

from kfp import dsl

from components.evaluate.component import evaluate
from components.finish.component import finish
from components.gate.component import gate
from components.prepare.component import prepare
from components.register.component import register
from components.report.component import report
from components.sft.component import sft
from components.train.component import train
from pipelines.tasks import uncached


@dsl.pipeline(name="fipo-training", display_name="FIPO training")
def fipo_training(recipe: str = "demo", overrides: list = []):  # noqa: B006 - kfp reads the default, nothing changes it
    """Train a reasoning model with Future-KL Influenced Policy Optimization, from raw problems to the model registry.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
    """
    settings = {"recipe": recipe, "overrides": overrides}
    with dsl.ExitHandler(finish(**settings)):
        data = prepare(**settings).outputs["dataset"]
        warmup = uncached(sft(**settings, dataset=data)).outputs["model"]
        model = uncached(train(**settings, dataset=data, warmup=warmup)).outputs["model"]
        results = uncached(evaluate(**settings, dataset=data, warmup=warmup, model=model)).outputs["results"]
        decision = uncached(gate(**settings, results=results)).outputs["Output"]
        registered = uncached(register(**settings, model=model, decision=decision)).outputs["registered"]
        uncached(report(**settings, results=results, registered=registered))
