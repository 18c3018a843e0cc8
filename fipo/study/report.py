"""Verdicts, tables and figures of a study, put into its text: the `.md` file beside it, or one that fits any study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fipo.errors import DataError
from fipo.figures import ABOVE, BELOW, INK, MUTED, PHASES, styled, to_png
from fipo.study.comparisons import along, paired, scores_by_seed, token_grid, verdicts
from fipo.study.credit import role_figure, role_table
from fipo.study.results import CURVES, Result
from fipo.study.statistics import Mean, mean_over_seeds
from fipo.study.study import Question, Study

TITLES = {
    "avg_at_k": "avg@k",
    "cons_at_k": "cons@k",
    "pass_at_k": "pass@k",
    "learning": "accuracy while learning",
    "mean_response_tokens": "response (tokens)",
}
"""Scores in a table; `learning` is the accuracy of all responses sampled in training, averaged over the budget."""
COMPARED = {"avg_at_k": "avg@k", "learning": "accuracy while learning", "mean_response_tokens": "tokens"}
"""Scores of which tables give the difference to the baseline."""
DEFAULT_TEXT = Path(__file__).with_name("report.md")
COLUMNS = 4
"""Panels in a row of a figure."""


def write_report(study: Study, results: Sequence[Result], document: Path, *, text: str, standing: str) -> list[Path]:
    """Write the document and its figures beside it; returns the files.

    Args:
        study: what was compared.
        results: its finished trials.
        document: to write.
        text: of the document, a Jinja template: it calls `table`, `figure`, `overview`, `verdict`, `roles`,
            `role_figure`, `value` and `change`.
        standing: whether the study was registered.

    Raises:
        DataError: the text names a question that the study does not have, or no seed has all arms of one.
    """
    pieces = Pieces(study, results, document)
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    names = sorted({result.trial.name for result in results})
    filled = environment.from_string(text).render(
        study=study,
        standing=standing,
        verdict=lambda: verdict_table(study, results),
        table=lambda name: score_table(study, _question(study, name), results),
        figure=pieces.figure,
        overview=pieces.overview,
        roles=lambda: role_table(study, results),
        role_figure=pieces.role_figure,
        value=pieces.value,
        change=pieces.change,
        trials=len(results),
        names=names,
    )
    document.write_text(filled, encoding="utf-8")
    return [document, *pieces.images]


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a study's text calls for figures and numbers; the figures are written beside the document."""

    study: Study
    results: Sequence[Result]
    document: Path
    images: list[Path] = field(default_factory=list)
    """Written so far."""

    def figure(self, name: str, *curves: str) -> str:
        """Curves of a question's arms over the steps: all of them, or those that are named."""
        drawn = curves_figure(self.study, _question(self.study, name), self.results, curves)
        return self._image(f"{name}{'-short' if curves else ''}", self.study.asked[name].title, drawn)

    def overview(self) -> str:
        """Every arm's difference to the baseline."""
        return self._image(
            "overview", f"Every arm against {self.study.baseline}", differences_figure(self.study, self.results)
        )

    def role_figure(self) -> str:
        """Influence weights by the role of a token, over the steps."""
        return self._image("roles", "Influence weights by role, over the steps", role_figure(self.study, self.results))

    def value(self, task: str, arm: str, score: str = "avg_at_k") -> str:
        """An arm's score: its mean over seeds, with the interval."""
        return _text(score, mean_over_seeds(list(scores_by_seed(self.results, task, arm, score).values())))

    def change(self, task: str, arm: str, score: str = "avg_at_k", baseline: str = "") -> str:
        """What the arm adds to the baseline, or to the arm that is named: paired by seed, with the interval."""
        return _change(score, _paired(self.results, task, baseline or self.study.baseline, arm, score)).strip("*")

    def _image(self, name: str, title: str, drawn: Figure) -> str:
        path = self.document.parent / "images" / f"{self.document.stem}-{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_png(drawn))
        self.images.append(path)
        return f"![{title}](images/{path.name})"


def score_table(study: Study, question: Question, results: Sequence[Result]) -> str:
    """Scores of each arm, and what it adds to the baseline: paired by seed, 95 % intervals over seeds."""
    heads = [
        "task",
        "arm",
        *TITLES.values(),
        *(f"{title} over {study.baseline}" for title in COMPARED.values()),
        "seeds",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for task in study.tasks:
        for arm in _arms(study, question):
            found = {score: scores_by_seed(results, task, arm, score) for score in TITLES}
            if not found["avg_at_k"]:
                continue
            means = [_text(score, mean_over_seeds(list(found[score].values()))) for score in TITLES]
            changes = [""] * len(COMPARED)
            if arm != study.baseline:
                changes = [_change(score, _paired(results, task, study.baseline, arm, score)) for score in COMPARED]
            lines.append(f"| {' | '.join([task, f'`{arm}`', *means, *changes, str(len(found['avg_at_k']))])} |")
    return "\n".join(lines)


def verdict_table(study: Study, results: Sequence[Result]) -> str:
    """What the outcome says of each arm, all comparisons together; empty for a study without an outcome."""
    if not study.outcome:
        return ""
    score = study.outcome.score
    lines = [
        f"| {one.task} | `{one.arm}` | {_change(score, one.difference).strip('*')} | {one.p:.2g} | "
        f"{one.equivalence_p:.2g} | {one.difference.seeds} | **{one.word}** |"
        for one in verdicts(study, study.outcome, results)
    ]
    head = f"| task | arm | {TITLES[score]} over {study.baseline} | p | p of equivalence | seeds | verdict |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *lines])


@styled
def differences_figure(study: Study, results: Sequence[Result]) -> Figure:
    """What every arm adds to the baseline, with its interval: a row a task, a column a score."""
    arms = [arm for arm in study.arms if arm != study.baseline]
    figure = Figure(figsize=(3.6 * len(COMPARED) + 1.4, (0.24 * len(arms) + 1.1) * len(study.tasks)))
    axes = figure.subplots(len(study.tasks), len(COMPARED), squeeze=False, sharey=True)
    for row, task in zip(axes, study.tasks):
        for ax, (score, title) in zip(row, COMPARED.items()):
            scale, _ = _format(score)
            for y, arm in enumerate(arms):
                change = _paired(results, task, study.baseline, arm, score)
                if change:
                    colour = MUTED if not change.differs_from_zero else ABOVE if change.value > 0 else BELOW
                    ax.errorbar(
                        scale * change.value,
                        y,
                        xerr=scale * np.nan_to_num(change.half_width),
                        fmt="o",
                        color=colour,
                        markersize=4,
                    )
            ax.axvline(0.0, color=INK, linewidth=0.8)
            ax.set_title(f"{task}: {title}")
            ax.set_xlabel(f"{'points' if scale > 1 else 'tokens'} over {study.baseline}")
        row[0].set_yticks(range(len(arms)), arms)
        row[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


@styled
def curves_figure(study: Study, question: Question, results: Sequence[Result], curves: Sequence[str] = ()) -> Figure:
    """Curves over sampled tokens, all or some, rows a task: mean over seeds, and the range of the seeds."""
    curves = curves or tuple(CURVES)
    columns = min(COLUMNS, len(curves) + 1)
    blocks = math.ceil((len(curves) + 1) / columns)  # one place of each task is for the legend, or empty
    figure = Figure(figsize=(3.1 * columns, 2.6 * blocks * len(study.tasks)))
    places = figure.subplots(blocks * len(study.tasks), columns, squeeze=False)
    for row, task in enumerate(study.tasks):
        axes = places[row * blocks : (row + 1) * blocks].flatten()
        for ax, metric in zip(axes, curves):
            for colour, arm in zip(PHASES, _arms(study, question)):
                chosen = [result for result in results if (result.trial.task, result.trial.arm) == (task, arm)]
                if chosen:
                    tokens, values = _on_one_axis(chosen, metric)
                    ax.plot(tokens, values.mean(axis=0), color=colour, label=arm)
                    ax.fill_between(
                        tokens, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.12, linewidth=0
                    )
            ax.set_title(CURVES[metric])
            ax.set_xlabel("sampled response tokens")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
        for ax in axes[len(curves) :]:
            ax.set_axis_off()
        axes[len(curves)].set_title(task)
        axes[len(curves)].legend(
            *axes[0].get_legend_handles_labels(), loc="upper left", labelcolor=MUTED, frameon=False
        )
    return figure


def _on_one_axis(results: Sequence[Result], metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[GRID] tokens and [seeds, GRID] values, as far as all seeds go."""
    grid = token_grid(results)
    return grid, np.array([along(result, metric, grid) for result in results])


def _arms(study: Study, question: Question) -> Iterable[str]:
    return dict.fromkeys((study.baseline, *question.arms))


def _question(study: Study, name: str) -> Question:
    if name not in study.asked:
        raise DataError(f"study {study.name}: its text asks for {name!r}; questions are {', '.join(study.asked)}")
    return study.asked[name]


def _paired(results: Sequence[Result], task: str, baseline: str, arm: str, score: str) -> Mean | None:
    """The mean difference over the seeds that have both."""
    differences = paired(results, task, baseline, arm, score)
    return mean_over_seeds(differences) if differences else None


def _text(score: str, mean: Mean) -> str:
    return _interval(score, mean, "")


def _change(score: str, mean: Mean | None) -> str:
    if mean is None:
        return ""
    text = _interval(score, mean, "+")
    return f"**{text}**" if mean.differs_from_zero else text


def _interval(score: str, mean: Mean, sign: str) -> str:
    """The mean with its interval, where there is one."""
    scale, digits = _format(score)
    around = "" if math.isnan(mean.half_width) else f" ± {scale * mean.half_width:.{digits}f}"
    return f"{scale * mean.value:{sign}.{digits}f}{around}"


def _format(score: str) -> tuple[float, int]:
    """What a score is multiplied by, and its decimals: shares are shown in per cent."""
    return (1.0, 2) if score == "mean_response_tokens" else (100.0, 1)
