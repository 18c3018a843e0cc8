"""Means over seeds and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds with its 95 % interval."""

    value: float
    half_width: float
    """NaN with one seed."""
    seeds: int

    @property
    def differs_from_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return abs(self.value) > self.half_width


def mean_over_seeds(values: ArrayLike) -> Mean:
    """Student's interval: few seeds, about whose distribution little is known, need its wide tails."""
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    if count < 2:
        return Mean(float(values.mean()), float("nan"), count)
    error = values.std(ddof=1) / np.sqrt(count)
    return Mean(float(values.mean()), float(stats.t.ppf(0.975, count - 1) * error), count)
