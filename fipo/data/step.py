"""The step `prepare`: the problems of a run, made ready and published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fipo.data.audit import Audit
from fipo.data.demonstrations import Demonstrations
from fipo.data.prepare import SETS, prepare
from fipo.environments.notice import notice
from fipo.models import load_tokenizer
from fipo.rewards.pool import open_pool

if TYPE_CHECKING:
    from fipo.run.workspace import Attempt


def prepare_run(attempt: Attempt) -> None:
    """Publish the output `dataset`; its parts `problems` and `demonstrations` are what RL and the warm-up read."""
    config, folder = attempt.workspace.config, attempt.workspace.directory / "dataset"
    if said := notice(config):
        print(f"[prepare] {said}", flush=True)
    # In processes that can be killed: a hostile reference answer keeps the parser busy for ever.
    with open_pool(config.reward, workers=1) as graders:
        demonstrations = Demonstrations(graders, config.data.max_wrong_demonstrations) if config.sft.steps else None
        manifest = prepare(
            config, load_tokenizer(config.model), folder, refusal=Audit(graders), demonstrations=demonstrations
        )
    attempt.publish("dataset", folder, {"problems": SETS["train"], "demonstrations": SETS["sft"]})
    for name, count in manifest.counts.items():
        attempt.metrics[f"data/{name}"] = float(count)
    attempt.tracker.log(attempt.metrics, step=0)
    attempt.tracker.dataset(config.run.name, attempt.outputs["dataset"].sha256, attempt.outputs["dataset"].uri)
