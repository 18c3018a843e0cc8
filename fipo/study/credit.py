"""Who gets the credit, in a study's report: influence weights by the role of the token, in all and over the steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fipo.figures import INK, MUTED, PHASES, styled
from fipo.study.results import Result
from fipo.study.roles import FIELDS, over_steps
from fipo.study.study import Study

DRAWN = {"weight_right": "f where A > 0", "weight_wrong": "f where A < 0"}
"""A row of the figure each."""


def role_table(study: Study, results: Sequence[Result]) -> str:
    """Who gets the credit: by role of the token, means over all steps, then over the seeds; empty without roles."""
    if not study.roles:
        return ""
    lines = [
        "| task | arm | role | tokens | f where A > 0 | f where A < 0 | mean A | mean A f | change |",
        "|" + "---|" * 9,
    ]
    for task in study.tasks:
        for arm in study.arms:
            chosen = [one for one in results if (one.trial.task, one.trial.arm) == (task, arm) and one.credits]
            for role in study.roles if chosen else ():
                found = [over_steps(one.credits[role]) for one in chosen]
                mean = {name: float(np.nanmean([one[name] for one in found])) for name in FIELDS}
                push, weighted = mean["advantage"], mean["weighted"]
                lines.append(
                    f"| {task} | `{arm}` | {role} | {mean['tokens']:,.0f} | {mean['weight_right']:.3f} | "
                    f"{mean['weight_wrong']:.3f} | {push:+.3f} | {weighted:+.3f} | {weighted - push:+.3f} |"
                )
    return "\n".join(lines)


@styled
def role_figure(study: Study, results: Sequence[Result]) -> Figure:
    """Mean f of each step: a column a role, two rows a task; mean over the seeds, as far as all go."""
    rows = [(task, field) for task in study.tasks for field in DRAWN]
    figure = Figure(figsize=(3.1 * len(study.roles) + 1.4, 2.4 * len(rows)))
    places = figure.subplots(len(rows), len(study.roles), squeeze=False, sharex=True, sharey="row")
    for line, (task, field) in zip(places, rows):
        for ax, role in zip(line, study.roles):
            for colour, arm in zip(PHASES, study.arms):
                steps = _over_seeds(results, task, arm, role, field)
                if len(steps):
                    ax.plot(range(1, len(steps) + 1), steps, color=colour, label=arm)
            ax.axhline(1.0, color=INK, linewidth=0.8)
            ax.set_title(f"{role}: {DRAWN[field]}" if len(study.tasks) == 1 else f"{task}, {role}: {DRAWN[field]}")
    for ax in places[-1]:
        ax.set_xlabel("step")
    places[0][-1].legend(loc="best", labelcolor=MUTED, frameon=False)
    return figure


def _over_seeds(results: Sequence[Result], task: str, arm: str, role: str, field: str) -> NDArray[np.float64]:
    """[steps] means over the seeds that have a token of the role there; NaN where none has."""
    found = [
        one.credits[role][field] for one in results if (one.trial.task, one.trial.arm) == (task, arm) and one.credits
    ]
    steps = np.array([values[: min(map(len, found))] for values in found]) if found else np.empty((1, 0))
    there = np.isfinite(steps)
    counts = there.sum(axis=0)
    return np.where(counts > 0, np.where(there, steps, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
