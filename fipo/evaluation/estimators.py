"""Scores of sampled benchmarks and how sure they are: avg@k, cons@k, pass@k, bootstrap over problems. Pure numpy.

A problem is sampled n times and c of the responses are correct. The problem is the unit of resampling: responses to one
problem are not independent evidence about a benchmark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fipo.records import Estimate

CONFIDENCE = 0.95
RESAMPLES = 10_000

_CORRECT = object()
"""The one vote of all correct responses."""

_CHUNK_DRAWS = 4_000_000
"""Indices drawn at once: bounds memory at 32 MB whatever the number of problems."""


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """Mean difference over the same problems, candidate minus baseline, with its 95 % interval."""

    p_value: float
    """Two-sided: how often problems without any true difference would show one at least as large."""


def avg_at_k(correct: Sequence[bool]) -> float:
    """avg@k of one problem: the share of its k responses that are correct."""
    return sum(correct) / len(correct)


def pass_at_k(n: int, c: int, k: int) -> float:
    """pass@k of one problem: the probability that k of the n responses, drawn without replacement, hold a correct one.

    The unbiased estimator `1 - C(n - c, k) / C(n, k)` of Chen et al. 2021 (arXiv 2107.03374, Eq. 1), in exact integers
    and one rounding, so no n is too large.

    Raises:
        ValueError: not `1 <= k <= n` or not `0 <= c <= n`. With k > n no unbiased estimate exists.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n; got k = {k} with n = {n} responses")
    if not 0 <= c <= n:
        raise ValueError(f"correct responses must be between 0 and n = {n}; got {c}")
    draws = math.comb(n, k)
    return (draws - math.comb(n - c, k)) / draws


def cons_at_k(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """cons@k of one problem: the probability that the majority answer of its k responses is correct.

    Ties are broken uniformly at random and the expectation is returned: 0.5 when one correct and one wrong answer lead.
    A response without an answer (None) does not vote; correct responses vote together, however they write the answer.
    """
    votes: Counter[object] = Counter(
        _CORRECT if is_correct else answer
        for answer, is_correct in zip(answers, correct, strict=True)
        if is_correct or answer is not None
    )
    most = max(votes.values(), default=0)
    leaders = [answer for answer, count in votes.items() if count == most]
    return (_CORRECT in leaders) / len(leaders) if leaders else 0.0


def bootstrap(scores: ArrayLike, *, seed: int = 0) -> Estimate:
    """The mean of the problems' scores with its percentile bootstrap interval (Efron 1979).

    Problems that all score alike give an interval of no width: the data show no spread to resample.

    Args:
        scores: [problems], finite.
        seed: determines the resamples.
    """
    scores = _scores(scores)
    means = _resampled_means(scores, seed)
    low, high = np.quantile(means, _tails())
    return Estimate(float(scores.mean()), float(low), float(high))


def paired_bootstrap(baseline: ArrayLike, candidate: ArrayLike, *, seed: int = 0) -> Difference:
    """How much better the candidate is on the same problems in the same order.

    The interval is the percentile interval of the mean difference; the p-value is the share of resampled means, centred
    on zero, at least as far from it as the observed one, itself counted in (Davison and Hinkley 1997, 4.2). Where n
    problems differ it is at least 2^(1 - n), the least that the sign test gives: resampling a handful that agree shows
    no spread, and p is the more cautious of the two.

    Args:
        baseline: [problems], finite.
        candidate: [problems], finite.
        seed: determines the resamples.
    """
    baseline, candidate = _scores(baseline), _scores(candidate)
    if baseline.shape != candidate.shape:
        raise ValueError(f"a paired test needs the same problems twice; got {baseline.size} and {candidate.size}")
    differences = candidate - baseline
    observed = float(differences.mean())
    means = _resampled_means(differences, seed)
    low, high = np.quantile(means, _tails())
    # Equal means differ in the last bits when they are summed in another order.
    extreme = np.abs(means - observed) >= abs(observed) - 1e-12
    p_value = (1 + int(extreme.sum())) / (1 + RESAMPLES)
    signs = min(1.0, 2.0 ** (1 - int(np.count_nonzero(differences))))
    return Difference(observed, float(low), float(high), max(p_value, signs))


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(f"expected one finite score for each of at least one problem; got {scores!r}")
    return scores


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def _resampled_means(scores: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    return np.concatenate(list(_chunks_of_means(scores, np.random.default_rng(seed))))


def _chunks_of_means(scores: NDArray[np.float64], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    rows = max(1, _CHUNK_DRAWS // scores.size)
    for start in range(0, RESAMPLES, rows):
        drawn = rng.integers(scores.size, size=(min(rows, RESAMPLES - start), scores.size))
        yield scores[drawn].mean(axis=1)
