"""What a run report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fipo.errors import DataError
from fipo.evaluation.estimators import Difference, paired_bootstrap
from fipo.evaluation.results import BenchmarkResult

History = Sequence[tuple[int, Mapping[str, float]]]
"""(RL step, metrics by name), in the order of steps; a step need not have every metric."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One benchmark, answered before and after RL."""

    warmup: BenchmarkResult
    trained: BenchmarkResult

    def __post_init__(self) -> None:
        if [problem.id for problem in self.warmup.problems] != [problem.id for problem in self.trained.problems]:
            raise DataError(
                f"benchmark {self.name}: the two models answered different problems; evaluate both on the same data"
            )

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return self.trained.benchmark

    def difference(self, metric: str) -> Difference:
        """Trained minus warm-up in `avg_at_k`, `cons_at_k` or `pass_at_k`, paired by problem."""
        return paired_bootstrap(self.warmup.scores(metric), self.trained.scores(metric))


@dataclass(frozen=True, slots=True)
class TokenInfluence:
    """One training response, token by token, as the loss saw it."""

    step: int
    """RL step of the update."""
    prompt: str
    tokens: tuple[str, ...]
    """The response's tokens as text."""
    influence_weights: tuple[float, ...]
    """f_t (Eq. 7)."""
    log_ratios: tuple[float, ...]
    """log_ratio_t (Eq. 3)."""
    advantage: float
    """A of the response (Eq. 1)."""

    def __post_init__(self) -> None:
        lengths = {len(self.tokens), len(self.influence_weights), len(self.log_ratios)}
        if len(lengths) != 1:
            raise DataError(
                f"token influence: tokens, influence_weights and log_ratios must be equally long; got {lengths}"
            )


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether the model may become champion."""

    passed: bool
    metric: str
    value: float
    champion: float | None
    """The metric of the champion that it was compared with; None if there was none."""
    reason: str
    """One sentence."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The registered model."""

    name: str
    version: str
    uri: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the report shows; what is None or empty is left out of it."""

    run: str
    recipe: str
    loss: str
    """`algorithm.loss`: fipo, dapo or grpo."""
    benchmarks: tuple[Comparison, ...]
    """The first one makes the headline."""
    history: History = ()
    """Metrics of the RL steps, by the names of `fipo.tracking.metric_names`."""
    tokens: TokenInfluence | None = None
    """None for a loss without influence weights."""
    gate: GateDecision | None = None
    model: ModelInfo | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each step of the pipeline, in its order."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses by what they show: the MLflow run, the pipeline run."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What it takes to repeat the run: digests, seeds, versions."""


def series(history: History, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The steps that have `metric`, and its values there; both empty if none has."""
    found = [(step, metrics[metric]) for step, metrics in history if metric in metrics]
    steps, values = zip(*found) if found else ((), ())
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)
