"""Arms beside the baseline: scores by seed, paired differences, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fipo.errors import DataError
from fipo.study.results import ACCURACY, Result
from fipo.study.statistics import Mean, difference_p, equivalence_p, holm, mean_over_seeds, seeds_needed, spread
from fipo.study.study import Outcome, Study

GRID = 60
"""Points of a curve over sampled tokens."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the outcome of a study says of one arm on one task, all comparisons of the study taken together."""

    task: str
    arm: str
    difference: Mean
    """To the baseline, paired by seed; its interval is as wide as the number of comparisons asks for (Bonferroni)."""
    p: float
    """That seeds alone make such a difference; adjusted (Holm)."""
    equivalence_p: float
    """That seeds alone make it look this small, were it the smallest effect worth finding; adjusted (Holm)."""
    word: str
    """`higher`, `lower`, `equivalent` or `undecided`; `unfinished` until every seed of the study is there."""


@dataclass(frozen=True, slots=True)
class Need:
    """How many seeds an arm needs on a task."""

    task: str
    arm: str
    deviation: float
    """Of its paired differences between seeds."""
    pilot_seeds: int
    seeds: int


def verdicts(study: Study, outcome: Outcome, results: Sequence[Result]) -> list[Verdict]:
    """One for each task and each arm that has a seed in common with the baseline.

    A difference that is there may be smaller than what is worth finding: `higher` and `lower` come before `equivalent`.
    Who looks after every seed and stops at the first word sees differences that are not there four times as often:
    there is none before the last seed. What is not finished counts as a comparison, too.
    """
    found = _differences(study, outcome, results)
    missing = [1.0] * (study.comparisons - len(found))
    share = outcome.significance / study.comparisons
    real = holm([*(difference_p(values) for values in found.values()), *missing])
    small = holm([*(equivalence_p(values, outcome.smallest_effect) for values in found.values()), *missing])
    told = []
    for ((task, arm), values), p, none in zip(found.items(), real, small, strict=False):
        mean = mean_over_seeds(values, significance=share)
        if len(values) < len(study.seeds):
            word = "unfinished"
        elif p < outcome.significance:
            word = "higher" if mean.value > 0 else "lower"
        else:
            word = "equivalent" if none < outcome.significance else "undecided"
        told.append(Verdict(task, arm, mean, p, none, word))
    return told


def needs(study: Study, outcome: Outcome, pilot: Sequence[Result]) -> list[Need]:
    """How many seeds each comparison needs, judged by the spread that a pilot's differences have.

    The significance is shared out among the comparisons (Bonferroni), which Holm's adjustment never needs more than.

    Raises:
        DataError: fewer than two seeds of the pilot have both the baseline and an arm.
    """
    told = []
    for (task, arm), values in _differences(study, outcome, pilot).items():
        if len(values) < 2:
            raise DataError(
                f"study {study.name}: {task}, {arm}: a spread takes two seeds with {study.baseline}; got one"
            )
        deviation = spread(values)
        wanted = {"power": outcome.power, "significance": outcome.significance / study.comparisons}
        seeds = seeds_needed(deviation, outcome.smallest_effect, **wanted) if deviation else 2
        told.append(Need(task, arm, deviation, len(values), seeds))
    return told


def scores_by_seed(results: Sequence[Result], task: str, arm: str, score: str) -> Mapping[int, float]:
    """A score of an arm; `learning` is its accuracy while learning, averaged over the tokens that all have sampled."""
    of_task = [result for result in results if result.trial.task == task]
    chosen = [result for result in of_task if result.trial.arm == arm]
    if score == "learning":
        grid = token_grid(of_task) if chosen else np.empty(0)
        return {result.trial.seed: float(along(result, ACCURACY, grid).mean()) for result in chosen}
    return {result.trial.seed: result.scores[score] for result in chosen}


def paired(results: Sequence[Result], task: str, baseline: str, arm: str, score: str) -> list[float]:
    """The differences of the seeds that have both; they share the warmed-up model and the order of the data."""
    before, after = (scores_by_seed(results, task, one, score) for one in (baseline, arm))
    return [after[seed] - before[seed] for seed in sorted(before.keys() & after.keys())]


def token_grid(results: Sequence[Result]) -> NDArray[np.float64]:
    """[GRID] counts of sampled tokens that all results have reached."""
    return np.linspace(max(one.tokens[0] for one in results), min(one.tokens[-1] for one in results), GRID)


def along(result: Result, metric: str, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """A metric at each count of sampled tokens, between steps on a straight line."""
    logged = np.isfinite(result.curves[metric])
    return np.asarray(np.interp(grid, result.tokens[logged], result.curves[metric][logged]), np.float64)


def _differences(study: Study, outcome: Outcome, results: Sequence[Result]) -> dict[tuple[str, str], list[float]]:
    """By task and arm, of those that can be compared."""
    pairs = [(task, arm) for task in study.tasks for arm in study.arms if arm != study.baseline]
    found = {(task, arm): paired(results, task, study.baseline, arm, outcome.score) for task, arm in pairs}
    return {pair: values for pair, values in found.items() if values}
