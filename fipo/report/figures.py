"""The figures of a run, one function each. A figure whose metrics were not logged is None."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fipo.evaluation.estimators import pass_at_k
from fipo.evaluation.results import BenchmarkResult
from fipo.report.data import Comparison, History, series
from fipo.report.style import AFTER, BEFORE, INK, LENGTH, MUTED, WARM, panels, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def learning_curves(history: History) -> Figure | None:
    """Accuracy, reward and response length (mean, quartiles, extremes) over RL steps."""
    if not _any(history, "rollout/accuracy", "rollout/reward_mean", "rollout/response_tokens_mean"):
        return None
    figure, (accuracy, reward, length) = panels(3)
    _accuracy(accuracy, history)
    _line(reward, history, "rollout/reward_mean", WARM)
    reward.set_title("Reward")
    _lengths(length, history)
    return figure


@styled
def length_distribution(comparison: Comparison) -> Figure:
    """How long responses are before and after RL, and how often responses of a length are correct."""
    figure, (share, accuracy) = panels(2)
    edges = _length_bins(comparison)
    for result, colour, label in _both(comparison):
        tokens = result.response_tokens
        counts, _ = np.histogram(tokens, edges)
        share.stairs(counts / tokens.size, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        share.stairs(counts / tokens.size, edges, color=colour, linewidth=1.6, label=label)
        share.axvline(tokens.mean(), color=colour, linewidth=1.4, linestyle=(0, (3, 2)))
        _accuracy_by_length(accuracy, result, edges, colour)
    share.set_title("Response length on held-out problems")
    share.set_xlabel("response tokens")
    share.yaxis.set_major_formatter(_percent)
    share.set_ylabel("share of responses")
    share.legend()
    accuracy.set_title("Accuracy by response length")
    accuracy.set_xlabel("response tokens")
    _percent_axis(accuracy)
    return figure


@styled
def influence_weights(history: History) -> Figure | None:
    """The weights f_t over RL steps: mean and range, share at the clip, and spread in each mini-batch of a step."""
    if not _any(history, "train/influence_weight_mean"):
        return None
    figure, (weight, clipped, spread) = panels(3)
    _band(weight, history, "train/influence_weight_min", "train/influence_weight_max", AFTER, 0.14)
    _line(weight, history, "train/influence_weight_mean", AFTER)
    weight.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    weight.set_title("Influence weight: mean and range")
    _line(clipped, history, "train/influence_clip_fraction", WARM)
    clipped.set_title("Share of tokens at the clip")
    clipped.yaxis.set_major_formatter(_percent)
    clipped.set_ylim(bottom=0)
    _spread(spread, history)
    return figure


@styled
def stability(history: History) -> Figure | None:
    """Entropy, policy KL and gradient norm over RL steps."""
    shown = [
        ("train/entropy", "Entropy (nats a token)", LENGTH),
        ("train/policy_kl", "Policy KL (nats a token)", AFTER),
        ("train/grad_norm", "Gradient norm", WARM),
    ]
    if not _any(history, *(metric for metric, _, _ in shown)):
        return None
    figure, axes = panels(3)
    for ax, (metric, title, colour) in zip(axes, shown):
        _line(ax, history, metric, colour)
        ax.set_title(title)
    return figure


@styled
def pass_curve(comparison: Comparison) -> Figure:
    """pass@k for every k up to the number of samples: what the model can do if it may try k times."""
    figure, (curve, change) = panels(2)
    for result, colour, label in _both(comparison):
        ks = np.arange(1, result.k + 1)
        passes = [np.mean([pass_at_k(result.k, problem.correct, int(k)) for problem in result.problems]) for k in ks]
        curve.plot(ks, passes, color=colour, label=label, marker="o", markersize=3.5)
    curve.set_title("pass@k")
    curve.set_xlabel("k, responses that may be tried")
    _percent_axis(curve)
    curve.legend(loc="lower right")
    _by_problem(change, comparison)
    return figure


@styled
def hero(comparison: Comparison, history: History) -> Figure:
    """The result in one wide picture: accuracy and response length over RL steps, from warm-up to trained model."""
    figure, (accuracy, length) = panels(2, width=12.0, height=4.0)
    _accuracy(accuracy, history)
    _lengths(length, history)
    before, after = comparison.warmup.summary(), comparison.trained.summary()
    accuracy.set_title(f"Accuracy: {before.avg_at_k.value:.1%} → {after.avg_at_k.value:.1%}", fontsize=14)
    length.set_title(
        f"Response length: {before.mean_response_tokens:,.1f} → {after.mean_response_tokens:,.1f} tokens", fontsize=14
    )
    return figure


def _any(history: History, *metrics: str) -> bool:
    return any(metric in logged for _, logged in history for metric in metrics)


def _both(comparison: Comparison) -> tuple[tuple[BenchmarkResult, str, str], ...]:
    return (comparison.warmup, BEFORE, "warm-up"), (comparison.trained, AFTER, "trained")


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.3g} %"


def _percent_axis(ax: Axes) -> None:
    ax.set_ylim(-0.02, 1.04)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.yaxis.set_major_formatter(_percent)


def _line(ax: Axes, history: History, metric: str, colour: str, label: str | None = None) -> None:
    """A metric over steps; a long noisy one pale, with its moving average on top."""
    steps, values = series(history, metric)
    window = len(steps) // 25
    if window > 2:
        ax.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        steps, values = steps[window // 2 :][: len(steps) - window + 1], _moving_average(values, window)
    ax.plot(steps, values, color=colour, label=label)
    _step_axis(ax)


def _moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    return np.convolve(values, np.ones(window) / window, mode="valid")


def _band(ax: Axes, history: History, low: str, high: str, colour: str, alpha: float) -> None:
    steps, lows = series(history, low)
    _, highs = series(history, high)
    if len(lows) == len(highs):
        ax.fill_between(steps, lows, highs, color=colour, alpha=alpha, linewidth=0)


def _step_axis(ax: Axes) -> None:
    ax.set_xlabel("RL step")
    ax.xaxis.get_major_locator().set_params(integer=True)


def _accuracy(ax: Axes, history: History) -> None:
    _line(ax, history, "rollout/accuracy", AFTER, "while training")
    steps, values = series(history, "eval/validation/accuracy")
    if len(steps):
        ax.plot(steps, values, color=INK, linewidth=0, marker="o", markersize=4.5, label="held-out validation")
        ax.legend(loc="lower right")
    ax.set_title("Accuracy")
    _percent_axis(ax)


def _lengths(ax: Axes, history: History) -> None:
    prefix = "rollout/response_tokens"
    _band(ax, history, f"{prefix}_min", f"{prefix}_max", LENGTH, 0.10)
    _band(ax, history, f"{prefix}_q25", f"{prefix}_q75", LENGTH, 0.22)
    _line(ax, history, f"{prefix}_mean", LENGTH)
    ax.set_title("Response length (tokens)")
    ax.set_ylim(bottom=0)


def _spread(ax: Axes, history: History) -> None:
    ax.set_title("Spread of the weights by mini-batch")


def _length_bins(comparison: Comparison) -> NDArray[np.float64]:
    tokens = np.concatenate([comparison.warmup.response_tokens, comparison.trained.response_tokens])
    low, high = int(tokens.min()), int(tokens.max())
    width = max(1, -(-(high - low + 1) // 40))
    return np.arange(low, high + width + 1, width) - 0.5


def _accuracy_by_length(ax: Axes, result: BenchmarkResult, edges: NDArray[np.float64], colour: str) -> None:
    tokens = result.response_tokens
    correct = np.array([response.correct for problem in result.problems for response in problem.responses])
    counts, _ = np.histogram(tokens, edges)
    hits, _ = np.histogram(tokens[correct], edges)
    filled = counts > 0
    centres = ((edges[:-1] + edges[1:]) / 2)[filled]
    area = 10 + 180 * counts[filled] / counts.max()
    ax.scatter(centres, hits[filled] / counts[filled], s=area, color=colour, alpha=0.75, linewidth=0)


def _by_problem(ax: Axes, comparison: Comparison) -> None:
    """How many problems moved from one accuracy to another."""
    before, after = comparison.warmup.scores("avg_at_k"), comparison.trained.scores("avg_at_k")
    # With few samples a bin for each possible share, so that every bin can be filled.
    bins = min(comparison.trained.k, 16)
    edges = (np.arange(bins + 2) - 0.5) / bins
    for scores, colour, label in ((before, BEFORE, "warm-up"), (after, AFTER, "trained")):
        counts, _ = np.histogram(scores, edges)
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        ax.stairs(counts, edges, color=colour, linewidth=1.6, label=label)
    ax.set_title("Problems by share of correct responses")
    ax.xaxis.set_major_formatter(_percent)
    ax.set_xlabel("correct responses to a problem")
