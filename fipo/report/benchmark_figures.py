"""Figures of what the warm-up and the trained model answered to a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fipo.evaluation.estimators import pass_at_k
from fipo.evaluation.results import BenchmarkResult
from fipo.report.axes import percent, percent_axis
from fipo.report.data import Comparison
from fipo.report.style import AFTER, BEFORE, panels, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BINS = 40


@styled
def length_distribution(comparison: Comparison) -> Figure:
    """How long responses are before and after RL, and how often responses of a length are correct."""
    figure, (share, accuracy) = panels(2)
    edges = _length_bins(comparison)
    for result, colour, label in _models(comparison):
        tokens = result.response_tokens
        counts, _ = np.histogram(tokens, edges)
        _outline(share, counts / tokens.size, edges, colour, label)
        share.axvline(float(tokens.mean()), color=colour, linewidth=1.4, linestyle=(0, (3, 2)))
        _accuracy_by_length(accuracy, result, edges, colour)
    share.set_title("Responses by length")
    share.set_xlabel("response tokens")
    share.yaxis.set_major_formatter(percent)
    share.legend()
    accuracy.set_title("Accuracy by length")
    accuracy.set_xlabel("response tokens")
    accuracy.set_xlim(share.get_xlim())
    percent_axis(accuracy)
    return figure


@styled
def attempts(comparison: Comparison) -> Figure:
    """pass@k for every k up to the number of samples, and how many problems have which share of correct responses."""
    figure, (curve, problems) = panels(2)
    k = comparison.trained.k
    bins = min(k, MOST_BINS // 2)
    edges = (np.arange(bins + 2) - 0.5) / bins
    for result, colour, label in _models(comparison):
        correct = [problem.correct for problem in result.problems]
        passes = [np.mean([pass_at_k(k, c, attempts) for c in correct]) for attempts in range(1, k + 1)]
        curve.plot(range(1, k + 1), passes, color=colour, label=label, marker="o", markersize=4 if k <= 32 else 0)
        counts, _ = np.histogram(result.scores("avg_at_k"), edges)
        _outline(problems, counts, edges, colour, label)
    curve.set_title("pass@k")
    curve.set_xlabel("k, responses that may be tried")
    curve.locator_params(axis="x", integer=True)
    percent_axis(curve)
    curve.legend(loc="lower right")
    problems.set_title("Problems by share of correct responses")
    problems.set_xlabel("correct responses to a problem")
    problems.xaxis.set_major_formatter(percent)
    return figure


def _models(comparison: Comparison) -> tuple[tuple[BenchmarkResult, str, str], ...]:
    return (comparison.warmup, BEFORE, "warm-up"), (comparison.trained, AFTER, "trained")


def _outline(ax: Axes, heights: NDArray[np.floating], edges: NDArray[np.float64], colour: str, label: str) -> None:
    ax.stairs(heights, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
    ax.stairs(heights, edges, color=colour, linewidth=1.6, label=label)


def _length_bins(comparison: Comparison) -> NDArray[np.float64]:
    tokens = np.concatenate([comparison.warmup.response_tokens, comparison.trained.response_tokens])
    low, high = int(tokens.min()), int(tokens.max())
    width = -(-(high - low + 1) // MOST_BINS)
    return np.arange(low - 0.5, high + width, width)


def _accuracy_by_length(ax: Axes, result: BenchmarkResult, edges: NDArray[np.float64], colour: str) -> None:
    tokens = result.response_tokens
    correct = np.array([response.correct for problem in result.problems for response in problem.responses])
    counts, _ = np.histogram(tokens, edges)
    hits, _ = np.histogram(tokens[correct], edges)
    filled = counts > 0
    centres = ((edges[:-1] + edges[1:]) / 2)[filled]
    area = 12 + 180 * counts[filled] / counts.max()
    ax.scatter(centres, hits[filled] / counts[filled], s=area, color=colour, alpha=0.75, linewidth=0)
