"""What was measured of a model before its first update, and whether that admits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fipo.errors import AdmissionError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was measured."""

    name: str
    figure: float
    """The largest of all ranks; not a number fails."""
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
    """The model, tokenizer, trainer and engine of a run, held against transformers' own forward and each other."""

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
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """The checks that refuse the run."""
        return [check for check in self.checks if not check.passed]

    def refuse(self) -> None:
        """Do nothing for a model that is admitted.

        Raises:
            AdmissionError: a figure is beyond its limit; each is named.
        """
        if self.failed:
            raise AdmissionError(
                f"{self.model} is not admitted to training:\n"
                + "\n".join(
                    f"  {check.name}: must be at most {check.limit:g} {check.unit}; measured {check.figure:.3g}: "
                    f"{check.fault}"
                    for check in self.failed
                )
            )

    def line(self) -> str:
        """For the log: what was compared and how far it is apart."""
        nats = [check for check in self.checks if check.unit == "nats"]
        figures = ", ".join(f"{check.name} {check.figure:.1e}" for check in nats)
        return (
            f"admission of {self.model} ({self.precision}, {self.device}, head {self.head}, {self.positions:,} "
            f"positions, {self.seconds:.1f} s), apart in nats: {figures}"
        )

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


def mismatch_warning(gap: float, limit: float) -> str | None:
    """Says so when trainer and engine, on the same weights, are further apart than the run allows.

    Args:
        gap: mean distance of their log-probs over the tokens of a step, in nats (`train/mismatch_log_prob_gap_mean`).
        limit: `rollout.mismatch_limit`.
    """
    if gap <= limit:
        return None
    return (
        f"the log-probs of trainer and rollout engine are {gap:.3g} nats apart in the mean (rollout.mismatch_limit is "
        f"{limit:g}): the responses come from another policy than the one that is trained. Do both compute in the same "
        "precision, and has the engine the weights of this step?"
    )
