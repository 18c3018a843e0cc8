"""The step `prepare`: the problems of a run, made ready and published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fipo.data.prepare import SETS, prepare
from fipo.models import load_tokenizer
from fipo.rewards.pool import VerifierPool

if TYPE_CHECKING:
    from fipo.run.workspace import Attempt


def prepare_run(attempt: Attempt) -> None:
    """Publish the output `dataset`; its parts `problems` and `demonstrations` are what RL and the warm-up read."""
    config, folder = attempt.workspace.config, attempt.workspace.directory / "dataset"
    # In a process that can be killed: a hostile reference answer keeps the parser busy for ever.
    with VerifierPool(1, config.reward.timeout_seconds) as verifier:
        manifest = prepare(config, load_tokenizer(config.model), folder, accepts_answer=verifier.accepts)
    attempt.publish("dataset", folder, {"problems": SETS["train"], "demonstrations": SETS["sft"]})
    for name, count in manifest.counts.items():
        attempt.metrics[f"data/{name}"] = float(count)
    attempt.tracker.log(attempt.metrics, step=0)
    attempt.tracker.dataset(config.run.name, attempt.outputs["dataset"].sha256, attempt.outputs["dataset"].uri)
