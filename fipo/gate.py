"""Whether a trained model may become the champion."""

from __future__ import annotations

from dataclasses import dataclass

from fipo.config import Gate


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's verdict and what it rests on."""

    passed: bool
    metric: str
    benchmark: str
    value: float
    minimum: float
    champion: float | None
    """The present champion's value of the same metric on the same problems; None when there is none to compare with."""
    reason: str
    """One sentence for people."""


def decide(gate: Gate, benchmark: str, *, value: float, champion: float | None) -> Decision:
    """A model passes that reaches `gate.minimum` and beats the champion, where there is one.

    Args:
        gate: the rules.
        benchmark: whose metric it is.
        value: the candidate's.
        champion: the champion's, on the same problems.
    """
    name = f"{gate.metric} on {benchmark}"
    if value < gate.minimum:
        passed, reason = False, f"{name} is {value:.4f}, below the minimum of {gate.minimum:.4f}"
    elif champion is not None and value <= champion:
        passed, reason = False, f"{name} is {value:.4f} and does not beat the champion's {champion:.4f}"
    elif champion is not None:
        passed, reason = True, f"{name} is {value:.4f} and beats the champion's {champion:.4f}"
    else:
        passed, reason = True, f"{name} is {value:.4f}, at least {gate.minimum:.4f}, and there is no champion to beat"
    return Decision(passed, gate.metric, benchmark, value, gate.minimum, champion, reason)
