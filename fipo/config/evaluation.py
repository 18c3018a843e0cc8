"""How models are measured, judged and registered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fipo.config.base import Name, Probability, Section


class Evaluation(Section):
    """How the held-out benchmarks are sampled."""

    samples: int = Field(32, ge=1)
    """Responses to each problem: the k of avg@k, cons@k and pass@k."""
    temperature: float = Field(1.0, ge=0.0)
    """0 takes the most probable token."""
    top_p: float = Field(0.7, gt=0.0, le=1.0)
    """Sample from the most probable tokens that make up this share."""


Score = Literal["avg_at_k", "cons_at_k", "pass_at_k"]


class GateRule(Section):
    """One comparison with the present champion, on the same problems."""

    rule: Literal["improves", "keeps"]
    """`improves`: the change's 95% interval lies above `by`, and p is below 5%. `keeps`: it falls by at most `by`."""
    benchmark: str = ""
    """Name of a benchmark; empty is `gate.benchmark` for `improves`, and each of them for `keeps`."""
    metric: Score = "avg_at_k"
    """Score that is compared."""
    by: Probability = 0.0
    """In the score's unit: 0.02 is two percentage points."""


class Gate(Section):
    """What a model must show to become `champion`."""

    benchmark: str = ""
    """Name of a benchmark in `data.benchmarks`; empty is the first."""
    metric: Score = "avg_at_k"
    """Score that must reach `gate.minimum`."""
    minimum: Probability = 0.0
    """Least value of the metric; a model that gets nothing right never passes, and the first champion must not be worse
    than the model that RL began with."""
    rules: tuple[GateRule, ...] = (GateRule(rule="improves"), GateRule(rule="keeps", by=0.05))
    """All must hold where there is a champion."""


class Registry(Section):
    """MLflow's model registry."""

    model_name: Name = "fipo"
    """Registered model that this run adds a version to."""
