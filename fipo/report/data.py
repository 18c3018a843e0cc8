"""What a run report is made of."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fipo.errors import DataError
from fipo.evaluation.estimators import Difference, paired_bootstrap
from fipo.evaluation.results import METRICS, BenchmarkResult
from fipo.records import Decision, Registration
from fipo.run.stages import Pace, Stage

History = Sequence[tuple[int, Mapping[str, float]]]
"""(RL step, metrics by name), as they were logged: a step may come in parts, and again after a resume."""


@dataclass(frozen=True)
class Comparison:
    """One benchmark, answered by two models: before and after RL, or by two runs.

    Raises:
        DataError: they answered different problems, or not equally often.
    """

    baseline: BenchmarkResult
    candidate: BenchmarkResult

    def __post_init__(self) -> None:
        if [problem.id for problem in self.baseline.problems] != [problem.id for problem in self.candidate.problems]:
            raise DataError(
                f"benchmark {self.name}: the two models answered different problems; evaluate both on the same data"
            )
        if self.baseline.k != self.candidate.k:
            raise DataError(
                f"benchmark {self.name}: the two models answered {self.baseline.k} and {self.candidate.k} times; "
                "evaluate both with the same evaluation.samples"
            )

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return self.candidate.benchmark

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """Candidate minus baseline, paired by problem, for each of `METRICS`."""
        return {
            metric: paired_bootstrap(self.baseline.by_problem(metric), self.candidate.by_problem(metric))
            for metric in METRICS
        }


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
class Said:
    """What a model answered, and what the grader says of it."""

    text: str
    outcome: str
    tokens: int


@dataclass(frozen=True, slots=True)
class SameProblem:
    """One problem, answered by the warmed-up model and by a later one."""

    problem: str
    answer: str
    """The reference answer."""
    before: Said | None
    after: Said


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows that preparation left out."""

    counts: Mapping[str, int]
    """By reason, broken ones and those that the set is better without."""
    examples: Sequence[Mapping[str, str]] = ()
    """A few broken ones: `where`, `reason`, `excerpt`."""


@dataclass(frozen=True, slots=True)
class Live:
    """A run whose report is not the last one."""

    stages: Mapping[str, Stage | None]
    """By step, in order; None is still to come."""
    paces: Mapping[str, Pace]
    """Of the step at work."""
    at: float
    """When it was so: seconds since 1970."""
    refresh_seconds: float | None
    """How soon a browser should look again; None where nothing is at work any more."""

    @property
    def written(self) -> str:
        """`13:42:07`, UTC."""
        return time.strftime("%H:%M:%S", time.gmtime(self.at))

    @property
    def now(self) -> tuple[str, Stage] | None:
        """The step that is at work, or was last."""
        return next(((name, stage) for name, stage in reversed([*self.stages.items()]) if stage), None)


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the report shows; what is None or empty is left out of it."""

    run: str
    recipe: str
    """Recipe that its settings began with; empty if it is not known."""
    loss: str
    """`algorithm.loss`: fipo, dapo or grpo."""
    benchmarks: tuple[Comparison, ...]
    """The warmed-up and the trained model on each benchmark; the first makes the headline. Empty while it lives."""
    history: History = ()
    """Metrics of the RL steps, by the names of `fipo.tracking.metric_names`."""
    warmup: History = ()
    """Metrics of the warm-up's steps."""
    steps: int = 0
    """RL steps that are wanted; 0 is not known."""
    answers: Sequence[SameProblem] = ()
    answers_of: str = ""
    """Which model the later answers are of: `RL step 12`."""
    set_aside: SetAside | None = None
    warnings: Sequence[str] = ()
    """What the run was warned of, the newest last."""
    live: Live | None = None
    """None for the last report of a run."""
    tokens: TokenInfluence | None = None
    """None for a loss without influence weights."""
    gate: Decision | None = None
    model: Registration | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each step of the pipeline, in its order."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses by what they show: the MLflow run, the pipeline run."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What it takes to repeat the run: digests, seeds, versions."""


def against_first(runs: Mapping[str, BenchmarkResult]) -> dict[str, Comparison]:
    """Each other run against the first, by name.

    Raises:
        DataError: fewer than two runs, or they answered different problems or not equally often.
    """
    if len(runs) < 2:
        raise DataError(f"a comparison needs at least two runs; got {', '.join(runs) or 'none'}")
    (_, baseline), *others = runs.items()
    return {name: Comparison(baseline, result) for name, result in others}


def series(history: History, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The steps that have `metric`, ascending, and its values there; both empty if none has.

    A resumed run repeats the steps after its last checkpoint: the later value counts.
    """
    values = {step: metrics[metric] for step, metrics in history if metric in metrics}
    steps = sorted(values)
    return np.array(steps, dtype=np.int64), np.array([values[step] for step in steps], dtype=np.float64)
