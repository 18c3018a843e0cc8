"""Figures of the RL steps, one function each: panels, none of them where the run did not log what they show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fipo.figures import ABOVE, AFTER, BEFORE, BELOW, INK, LENGTH, MUTED, PHASES, WARM, apart, panels, styled
from fipo.report.axes import band, line, percent, percent_axis
from fipo.report.data import Comparison, History, TokenInfluence, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THIRD, HALF = 3.5, 4.4
"""Inches, as wide as a panel is where three and where two stand side by side: text stays readable on a phone."""
_DASHED = (0, (3, 2))
_BUILT_IN = {"reward/accuracy", "reward/overlong"}
"""Reward functions that other panels show."""


@styled
def learning_curves(history: History) -> list[Figure]:
    """Accuracy, reward, response length (mean, quartiles, extremes), and each reward function of the user's own."""
    if not _logged(history, "rollout/accuracy"):
        return []
    own = _own_rewards(history)
    figures, (accuracy, reward, length, *others) = apart(3 + len(own), width=THIRD)
    _accuracy(accuracy, history)
    line(reward, history, "rollout/reward_mean", WARM)
    reward.set_title("Reward")
    _length(length, history)
    for ax, name in zip(others, own, strict=True):
        _from_zero(ax, history, name)
        ax.set_title(own[name])
    return figures


@styled
def warm_up(history: History) -> list[Figure]:
    """The loss on demonstrations."""
    if not _logged(history, "sft/loss"):
        return []
    figures, (loss,) = apart(1, width=HALF)
    line(loss, history, "sft/loss", AFTER, "batch")
    steps, held_out = series(history, "sft/validation_loss")
    if len(steps):
        loss.plot(steps, held_out, color=INK, linewidth=0, marker="o", markersize=4, label="held-out demonstrations")
        loss.legend()
    loss.set_title("Loss (nats a token)")
    loss.set_xlabel("warm-up step")
    loss.set_ylim(bottom=0)
    return figures


@styled
def influence_weights(history: History) -> list[Figure]:
    """The weights f_t: mean and range, share at each clip, and spread by the mini-batches of a step."""
    if not _logged(history, "train/influence_weight_std"):
        return []
    figures, (weight, clipped, spread) = apart(3, width=THIRD)
    _weights(weight, history)
    line(clipped, history, "train/influence_clip_high_fraction", ABOVE, "at the upper bound")
    line(clipped, history, "train/influence_clip_low_fraction", BELOW, "at the lower bound")
    clipped.set_title("Tokens at the clip")
    clipped.set_ylim(0, 1.35 * clipped.get_ylim()[1])
    clipped.yaxis.set_major_formatter(percent)
    clipped.legend(loc="upper left")
    _spread(spread, history)
    return figures


@styled
def stability(history: History) -> list[Figure]:
    """Entropy, policy KL and gradient norm."""
    if not _logged(history, "train/entropy"):
        return []
    figures, axes = apart(3, width=THIRD)
    for ax, metric, title, colour in (
        (axes[0], "train/entropy", "Entropy (nats a token)", LENGTH),
        (axes[1], "train/policy_kl_k3", "Policy KL (nats a token)", AFTER),
        (axes[2], "train/grad_norm", "Gradient norm", WARM),
    ):
        line(ax, history, metric, colour)
        ax.set_title(title)
    return figures


@styled
def step_time(history: History) -> list[Figure]:
    """Seconds of each RL step by phase."""
    logged = sorted({name for _, metrics in history for name in metrics})
    phases = [name for name in logged if re.fullmatch(r"perf/(?!step)\w+_seconds", name)]
    if not phases:
        return []
    figures, (ax,) = apart(1, width=5.4)
    steps, _ = series(history, "perf/step_seconds")
    by_phase = [dict(zip(*series(history, phase))) for phase in phases]
    seconds = np.array([[found.get(step, 0.0) for step in steps] for found in by_phase])
    order = np.argsort(-seconds.sum(axis=1))
    names = [phases[index].removeprefix("perf/").removesuffix("_seconds").replace("_", " ") for index in order]
    ax.stackplot(steps, seconds[order], labels=names, colors=PHASES, linewidth=0, step="mid", alpha=0.85)
    ax.set_title("Seconds of an RL step")
    ax.set_xlabel("RL step")
    ax.locator_params(axis="x", integer=True)
    figures[0].legend(loc="outside lower center", ncols=4)
    return figures


@styled
def token_influence(influence: TokenInfluence) -> list[Figure]:
    """f_t along one response, and the log-ratios whose discounted sum from each token on it is made of."""
    figures, (weight, ratio) = apart(2, width=HALF)
    edges = np.arange(len(influence.tokens) + 1) - 0.5
    for ax, values, neutral in ((weight, influence.influence_weights, 1.0), (ratio, influence.log_ratios, 0.0)):
        # Two outlines instead of a bar a token: responses have thousands.
        ax.stairs(np.maximum(values, neutral), edges, baseline=neutral, fill=True, color=ABOVE, alpha=0.8)
        ax.stairs(np.minimum(values, neutral), edges, baseline=neutral, fill=True, color=BELOW, alpha=0.8)
        ax.axhline(neutral, color=MUTED, linewidth=0.9)
        ax.set_xlabel("position in the response")
        ax.locator_params(axis="x", integer=True)
    weight.set_title("Influence weight of each token")
    ratio.set_title("log_ratio of each token")
    return figures


@styled
def hero(comparison: Comparison, history: History) -> Figure:
    """The result in one wide picture: accuracy, response length and the user's own reward functions over RL steps, and
    what held-out problems say."""
    own = _own_rewards(history)
    figure, (accuracy, length, *others) = panels(2 + len(own), width=12.0, height=4.2)
    _accuracy(accuracy, history)
    _length(length, history)
    before, after = comparison.baseline.scores(), comparison.candidate.scores()
    _ends(accuracy, history, before.avg_at_k.value, after.avg_at_k.value, AFTER, "{:.1%}")
    _ends(length, history, before.mean_response_tokens, after.mean_response_tokens, LENGTH, "{:,.1f}")
    for ax, name in zip(others, own, strict=True):
        _from_zero(ax, history, name)
    for ax, title in zip((accuracy, length, *others), ("Accuracy", "Response length (tokens)", *own.values())):
        ax.set_title(title, fontsize=13)
    return figure


def _own_rewards(history: History) -> dict[str, str]:
    """Metrics of the reward functions that no other panel shows, and what to call them."""
    found = sorted({name for _, metrics in history for name in metrics if name.startswith("reward/")} - _BUILT_IN)
    return {name: f"{name.removeprefix('reward/').rpartition('.')[2].capitalize()}, mean" for name in found}


def _from_zero(ax: Axes, history: History, metric: str) -> None:
    line(ax, history, metric, WARM)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))


def _logged(history: History, metric: str) -> bool:
    return any(metric in metrics for _, metrics in history)


def _accuracy(ax: Axes, history: History) -> None:
    line(ax, history, "rollout/accuracy", AFTER, "sampled in training")
    steps, values = series(history, "validation/accuracy")
    if len(steps):
        size = 4.5 if len(steps) <= 20 else 2.5
        ax.plot(steps, values, color=INK, linewidth=0, marker="o", markersize=size, label="validation problems")
        ax.legend(loc="lower right")
    ax.set_title("Accuracy")
    percent_axis(ax)


def _length(ax: Axes, history: History) -> None:
    prefix = "rollout/response_tokens"
    band(ax, history, f"{prefix}_min", f"{prefix}_max", LENGTH, 0.10)
    band(ax, history, f"{prefix}_q25", f"{prefix}_q75", LENGTH, 0.22)
    line(ax, history, f"{prefix}_mean", LENGTH)
    ax.set_title("Response length (tokens)")
    ax.set_ylim(bottom=0)


def _weights(ax: Axes, history: History) -> None:
    """Mean, one standard deviation around it, and extremes."""
    name = "train/influence_weight"
    band(ax, history, f"{name}_min", f"{name}_max", AFTER, 0.10)
    steps, mean = series(history, f"{name}_mean")
    _, std = series(history, f"{name}_std")
    ax.fill_between(steps, mean - std, mean + std, color=AFTER, alpha=0.2, linewidth=0)
    line(ax, history, f"{name}_mean", AFTER)
    ax.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=_DASHED)
    ax.set_title("Mean and spread")


def _spread(ax: Axes, history: History) -> None:
    """Mean over the steps of the weights' standard deviation in the first, second, … update, and its quartiles."""
    name = "train/influence_weight_std_update_{}"
    updates: list[NDArray[np.float64]] = []
    while len(values := series(history, name.format(len(updates)))[1]):
        updates.append(values)
    positions = np.arange(1, len(updates) + 1)
    low, high = ([np.quantile(values, share) for values in updates] for share in (0.25, 0.75))
    ax.fill_between(positions, low, high, color=AFTER, alpha=0.18, linewidth=0)
    ax.plot(positions, [values.mean() for values in updates], color=AFTER, marker="o", markersize=4)
    ax.set_title("Spread by update")
    ax.set_xlabel("update within a step")
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)


def _ends(ax: Axes, history: History, before: float, after: float, colour: str, wording: str) -> None:
    """The held-out results as labelled points before the first and after the last step."""
    steps, _ = series(history, "rollout/accuracy")
    gap = max(1.0, 0.04 * (steps[-1] - steps[0]))
    first, last = (steps[0] - gap, before), (steps[-1] + gap, after)
    _end(ax, first, f"warm-up\n{wording.format(before)}", BEFORE, MUTED, offset=(-4, -11), valign="top")
    _end(ax, last, f"trained\n{wording.format(after)}", colour, colour, offset=(11, 0), valign="center")


def _end(
    ax: Axes, at: tuple[float, float], text: str, dot: str, ink: str, *, offset: tuple[int, int], valign: str
) -> None:
    ax.plot(*at, marker="o", markersize=9, color=dot, zorder=5, clip_on=False)
    ax.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        annotation_clip=False,
        va=valign,
        color=ink,
        fontsize=12,
        fontweight="bold",
        linespacing=1.15,
    )
