"""Figures of what models answered to a benchmark: before and after RL, and run against run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fipo.evaluation.estimators import pass_at_k
from fipo.evaluation.results import METRICS, BenchmarkResult
from fipo.figures import AFTER, BEFORE, INK, LENGTH, apart, panels, styled
from fipo.records import Estimate
from fipo.report import wording
from fipo.report.axes import percent, percent_axis
from fipo.report.data import Comparison, against_first
from fipo.report.training_figures import HALF

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BINS = 40


@styled
def length_distribution(comparison: Comparison) -> list[Figure]:
    """How long responses are before and after RL, and how often responses of a length are correct."""
    figures, (share, accuracy) = apart(2, width=HALF)
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
    return figures


@styled
def attempts(comparison: Comparison) -> list[Figure]:
    """pass@k for every k up to the number of samples, and how many problems have which share of correct responses."""
    figures, (curve, problems) = apart(2, width=HALF)
    k = comparison.candidate.k
    bins = min(k, MOST_BINS // 2)
    edges = (np.arange(bins + 2) - 0.5) / bins
    for result, colour, label in _models(comparison):
        correct = [problem.correct for problem in result.problems]
        passes = [np.mean([pass_at_k(k, c, attempts) for c in correct]) for attempts in range(1, k + 1)]
        curve.plot(range(1, k + 1), passes, color=colour, label=label, marker="o", markersize=4 if k <= 32 else 0)
        counts, _ = np.histogram(result.by_problem("avg_at_k"), edges)
        _outline(problems, counts, edges, colour, label)
    curve.set_title("pass@k")
    curve.set_xlabel("k, responses that may be tried")
    curve.locator_params(axis="x", integer=True)
    percent_axis(curve)
    curve.legend(loc="lower right")
    problems.set_title("Problems by share of correct responses")
    problems.set_xlabel("correct responses to a problem")
    problems.xaxis.set_major_formatter(percent)
    return figures


@styled
def comparison_figure(runs: Mapping[str, BenchmarkResult]) -> Figure:
    """Every run's scores on one benchmark with 95% intervals, and its response lengths (mean and quartiles).

    Raises:
        DataError: fewer than two runs, or they answered different problems or not equally often.
    """
    against_first(runs)
    summaries = [result.scores() for result in runs.values()]
    figure, axes = panels(len(METRICS) + 1, height=1.5 + 0.38 * len(runs))
    rows = np.arange(len(runs))
    for ax, metric in zip(axes, METRICS):
        _estimates(ax, rows, [getattr(summary, metric) for summary in summaries])
        ax.set_title(wording.MEANINGS[metric][0].format(k=summaries[0].k))
    lengths = [summary.response_tokens for summary in summaries]
    axes[-1].hlines(rows, [one.q25 for one in lengths], [one.q75 for one in lengths], LENGTH, linewidth=5, alpha=0.3)
    axes[-1].scatter([summary.mean_response_tokens for summary in summaries], rows, c=LENGTH, s=42, zorder=3)
    axes[-1].set_title("response tokens")
    for ax in axes:
        ax.set_yticks(rows, list(runs) if ax is axes[0] else [""] * len(runs))
        ax.set_ylim(len(runs) - 0.5, -0.5)
        ax.grid(axis="x")
    axes[0].tick_params(axis="y", labelcolor=INK, labelsize=10)
    axes[-1].margins(x=0.12)
    return figure


def _models(comparison: Comparison) -> tuple[tuple[BenchmarkResult, str, str], ...]:
    return (comparison.baseline, BEFORE, "warm-up"), (comparison.candidate, AFTER, "trained")


def _outline(ax: Axes, heights: NDArray[np.floating], edges: NDArray[np.float64], colour: str, label: str) -> None:
    ax.stairs(heights, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
    ax.stairs(heights, edges, color=colour, linewidth=1.6, label=label)


def _length_bins(comparison: Comparison) -> NDArray[np.float64]:
    tokens = np.concatenate([comparison.baseline.response_tokens, comparison.candidate.response_tokens])
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


def _estimates(ax: Axes, rows: NDArray[np.int64], estimates: Sequence[Estimate]) -> None:
    lows, highs = [one.low for one in estimates], [one.high for one in estimates]
    colours = [BEFORE] + [AFTER] * (len(rows) - 1)
    ax.hlines(rows, lows, highs, colours, linewidth=5, alpha=0.35)
    ax.scatter([one.value for one in estimates], rows, c=colours, s=42, zorder=3, clip_on=False)
    margin = max(0.12 * (max(highs) - min(lows)), 0.01)
    ax.set_xlim(max(min(lows) - margin, 0.0), min(max(highs) + margin, 1.0))
    ax.xaxis.set_major_formatter(percent)
    ax.locator_params(axis="x", nbins=5)
