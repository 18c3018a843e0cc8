"""What steps report of their work, besides outputs and metrics: a record for each step that has more to say.

A step stores it with its result, and `StepResult.read` gives it back: `run.result("gate").read(Decision)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LengthQuantiles:
    """Quantiles of response length in tokens, over all responses."""

    min: float
    q25: float
    median: float
    q75: float
    max: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one model on one benchmark, with 95 % bootstrap intervals over problems."""

    benchmark: str
    k: int
    """Responses to each problem."""
    problems: int
    avg_at_k: Estimate
    cons_at_k: Estimate
    pass_at_k: Estimate
    mean_response_tokens: float
    response_tokens: LengthQuantiles
    truncation_rate: float
    """Share of responses that reached the length limit."""
    outcomes: Mapping[str, float]
    """Share of responses by what the verifier found (`fipo.outcome.Outcome`)."""

    def values(self) -> dict[str, float]:
        """The scores and the mean length, by the names that metrics have, without intervals."""
        return {
            "avg_at_k": self.avg_at_k.value,
            "cons_at_k": self.cons_at_k.value,
            "pass_at_k": self.pass_at_k.value,
            "mean_response_tokens": self.mean_response_tokens,
        }


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Of `evaluate` and `score`: scores by benchmark."""

    trained: Mapping[str, Scores]
    warmup: Mapping[str, Scores] = field(default_factory=dict)
    """Of the model before RL; empty for a model that was not trained here."""
    contaminated: Mapping[str, int] = field(default_factory=dict)
    """Problems of each benchmark that the training data hold after all."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of the gate, what it looked at and what it found."""

    rule: str
    """`minimum`, `warmup` (the first champion's), `improves` or `keeps`."""
    benchmark: str
    metric: str
    passed: bool
    value: float
    """The candidate's."""
    bound: float
    """The rule's number: least value, least improvement or largest fall."""
    champion: float | None
    """The champion's value on the same problems; None for `minimum`, or if it has not answered them."""
    interval: tuple[float, float] | None
    """95% paired bootstrap interval of candidate minus champion."""
    reason: str
    """One sentence for people."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Of `gate`: the verdict and what it rests on."""

    passed: bool
    metric: str
    benchmark: str
    value: float
    minimum: float
    champion: float | None
    """The present champion's value of the same metric on the same problems; None when there is none to compare with."""
    reason: str
    """One sentence for people."""
    checks: tuple[Check, ...] = ()
    """The evidence, one entry a rule and benchmark."""
    champion_version: str = ""
    """Version in the registry that it was compared with."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Of `register`: the version that it made."""

    name: str
    version: str
    uri: str
    """Object-store URI of the folder with its weights."""
    sha256: str
    """Digest of that folder's manifest."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One comparison of an admission."""

    name: str
    figure: float
    """The largest of all ranks; infinite where it is no number."""
    limit: float
    unit: str
    fault: str
    """What is wrong where the figure is above the limit."""

    @property
    def passed(self) -> bool:
        """Whether the figure is within the limit."""
        return self.figure <= self.limit


@dataclass(frozen=True, slots=True)
class Admission:
    """Of `sft` and `train`: the model as trainer and engine compute it, held against transformers' own forward."""

    model: str
    """Type of its architecture."""
    precision: str
    device: str
    head: str
    """How the trainer computes logits."""
    stops: str
    """The tokens that end a response."""
    positions: int
    """Tokens of the longest row that was compared."""
    seconds: float
    fallbacks: tuple[str, ...]
    """What is done in a slower way than for other models, and why."""
    checks: tuple[Measurement, ...]

    @property
    def failed(self) -> list[Measurement]:
        """What refuses the run."""
        return [check for check in self.checks if not check.passed]

    def table(self) -> list[dict[str, Any]]:
        """One row a check, as MLflow and the report show it."""
        return [
            {
                "check": check.name,
                "measured": check.figure,
                "limit": check.limit,
                "unit": check.unit,
                "passed": check.passed,
                "otherwise": check.fault,
            }
            for check in self.checks
        ]
