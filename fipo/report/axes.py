"""What the figures share: lines and bands over RL steps, axes in percent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fipo.report.data import History, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED_FROM = 75
"""Steps from which on a curve is drawn as its moving average over the raw one."""


def line(ax: Axes, history: History, metric: str, colour: str, label: str | None = None) -> None:
    """A metric over steps; a long one pale, with its moving average over a 25th of the steps on top."""
    steps, values = series(history, metric)
    if len(steps) >= SMOOTHED_FROM:
        ax.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        window = len(steps) // 25
        values = np.convolve(values, np.ones(window) / window, mode="valid")
        steps = steps[window // 2 :][: len(values)]
    ax.plot(steps, values, color=colour, label=label, marker="o" if len(steps) == 1 else "")
    ax.set_xlabel("RL step")
    ax.locator_params(axis="x", integer=True)


def band(ax: Axes, history: History, low: str, high: str, colour: str, alpha: float) -> None:
    """The area between two metrics that are logged at the same steps."""
    steps, lows = series(history, low)
    _, highs = series(history, high)
    ax.fill_between(steps, lows, highs, color=colour, alpha=alpha, linewidth=0)


def percent_axis(ax: Axes) -> None:
    """Vertical axis from 0 % to 100 %."""
    ax.set_ylim(-0.02, 1.04)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.yaxis.set_major_formatter(percent)


def percent(value: float, _: float = 0.0) -> str:
    """Tick label: 0.05 is `5%`."""
    return f"{100 * value:.3g}%"
