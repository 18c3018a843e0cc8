"""What a step did, in one sentence for people who look no further."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from fipo.records import Decision, Evaluated, Registration, Scores

if TYPE_CHECKING:
    from fipo.run.result import StepResult

_COUNTS = {"data/train": "to train on", "data/validation": "to validate", "data/sft": "demonstrations"}
_LEFT_OUT = {"data/removed": "removed", "data/quarantined": "broken"}


def describe(result: StepResult) -> str:
    """`Not promoted: avg_at_k on aime-2024 is 2.1%, below the minimum of 50%.`"""
    return _SENTENCES[result.step](result)


def _prepare(result: StepResult) -> str:
    counts = ", ".join(_counted(result.metrics, _COUNTS)) or "nothing"
    left_out = " and ".join(_counted(result.metrics, _LEFT_OUT))
    return f"Kept {counts} of {result.metrics['data/read']:,.0f} rows{f'; {left_out}' if left_out else ''}."


def _counted(metrics: Mapping[str, float], names: Mapping[str, str]) -> Iterator[str]:
    return (f"{metrics[name]:,.0f} {word}" for name, word in names.items() if metrics.get(name))


def _sft(result: StepResult) -> str:
    if "sft/loss" not in result.metrics:
        return "The model is taken as it is, without warm-up." if not result.metrics else "Warmed up."
    held_out = result.metrics.get("sft/validation_loss")
    ending = f", {held_out:.3f} on held-out demonstrations" if held_out is not None else ""
    return f"Warmed up to a loss of {result.metrics['sft/loss']:.3f}{ending}."


def _train(result: StepResult) -> str:
    metrics = result.metrics
    if "rollout/accuracy" not in metrics:
        return "Trained."
    last = f"{_percent(metrics['rollout/accuracy'])} of the responses were right"
    return (
        f"Trained. In the last step {last}, with {metrics['rollout/response_tokens_mean']:,.1f} tokens each on average."
    )


def _evaluate(result: StepResult) -> str:
    evaluated = result.read(Evaluated)
    return " ".join(_score(name, evaluated.warmup.get(name), after) for name, after in evaluated.trained.items())


def _score(name: str, before: Scores | None, after: Scores) -> str:
    score, length = _percent(after.avg_at_k.value), f"{after.mean_response_tokens:,.1f} tokens"
    if before is None:
        return f"{name}: {score} of the responses are right, with {length} on average."
    scores = f"from {_percent(before.avg_at_k.value)} to {score} right"
    return f"{name}: {scores}, from {before.mean_response_tokens:,.1f} to {length}."


def _gate(result: StepResult) -> str:
    decision = result.read(Decision)
    return f"{'Promoted' if decision.passed else 'Not promoted'}: {decision.reason}."


def _register(result: StepResult) -> str:
    model = result.read(Registration)
    return f"Registered as version {model.version} of {model.name}."


def _report(result: StepResult) -> str:
    return f"Written to {result.outputs['report'].uri}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%".replace(".0%", "%")


_SENTENCES: Mapping[str, Callable[[StepResult], str]] = {
    "prepare": _prepare,
    "sft": _sft,
    "train": _train,
    "evaluate": _evaluate,
    "score": _evaluate,
    "gate": _gate,
    "register": _register,
    "report": _report,
}
