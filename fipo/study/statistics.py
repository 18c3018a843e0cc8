"""What a handful of seeds can tell: means, differences adjusted for their number, equivalence, and how many are needed.

Seeds are few and little is known about the distribution over them, so everything rests on Student's t of paired
differences; where these have no spread, and t nothing to divide by, on the sign test. Sources: Holm, "A simple
sequentially rejective multiple test procedure" (1979); Schuirmann, "A comparison of the two one-sided tests procedure"
(1987); the power of the t-test by the noncentral t distribution, as in Cohen, "Statistical power analysis for the
behavioral sciences" (1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

MOST_SEEDS = 10_000
"""Nobody trains more."""
_ROUNDING = 1e-9
_CERTAIN = 1e3
"""Effects in standard errors beyond which the noncentral t distribution has no figures, and no test misses them."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds with its interval."""

    value: float
    half_width: float
    """NaN with one seed, and where all seeds agree to the last digit: nothing tells how far another would be."""
    seeds: int

    @property
    def differs_from_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return abs(self.value) > self.half_width


def mean_over_seeds(values: ArrayLike, *, significance: float = 0.05) -> Mean:
    """Student's interval of a mean; it misses the true one in a share `significance` of all cases."""
    values = np.asarray(values, dtype=np.float64)
    seeds, deviation = len(values), spread(values)
    if not deviation:
        return Mean(float(values.mean()), float("nan"), seeds)
    error = deviation / np.sqrt(seeds)
    return Mean(float(values.mean()), float(stats.t.ppf(1 - significance / 2, seeds - 1) * error), seeds)


def spread(values: ArrayLike) -> float:
    """Standard deviation of values; 0 with one, and where they differ by rounding alone."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) <= _ROUNDING * max(1.0, float(np.abs(values).max())):
        return 0.0
    return float(values.std(ddof=1))


def difference_p(differences: ArrayLike) -> float:
    """How often seeds alone would make the mean this far from 0, were there no difference; 1 with one seed."""
    return _t_test(differences, 0.0, "two-sided")


def equivalence_p(differences: ArrayLike, margin: float) -> float:
    """Schuirmann's two one-sided tests: how often seeds alone would show so little, were the difference `margin`."""
    return max(_t_test(differences, -margin, "greater"), _t_test(differences, margin, "less"))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment: of comparisons whose adjusted value is under 0.05, with 95 % none is there by chance."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def seeds_needed(deviation: float, effect: float, *, power: float, significance: float) -> int:
    """The fewest seeds with which a paired t-test finds `effect` in a share `power` of all studies.

    Args:
        deviation: standard deviation of the paired differences between seeds, from a pilot; above 0.
        effect: the smallest difference of means that is worth finding, in the same unit.
        power: share of studies that shall find it.
        significance: share of studies that may find a difference where there is none.

    Returns:
        At least 2; `MOST_SEEDS` if not even so many are enough.
    """
    for seeds in count(2):
        freedom = seeds - 1
        critical, shift = stats.t.ppf(1 - significance / 2, freedom), effect / deviation * np.sqrt(seeds)
        if shift > _CERTAIN or stats.nct.sf(critical, freedom, shift) >= power or seeds == MOST_SEEDS:
            return seeds
    raise AssertionError  # `count` does not end


def _t_test(differences: ArrayLike, mean: float, alternative: str) -> float:
    """By Student's t; where all seeds agree, by the sign test: that n of them lie on one side happens once in 2^n."""
    differences = np.asarray(differences, dtype=np.float64)
    if spread(differences):
        return float(stats.ttest_1samp(differences, mean, alternative=alternative).pvalue)
    beyond = float(differences[0]) - mean
    one_side = 0.5 ** len(differences)
    if alternative == "two-sided":
        return 2 * one_side if abs(beyond) > _ROUNDING else 1.0
    return one_side if (beyond > 0) == (alternative == "greater") and beyond else 1.0
