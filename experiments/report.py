"""Tables and figures of a study, put into its text: `experiments/NAME.md` becomes `docs/experiments.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from experiments.intervals import Mean, mean_over_seeds
from experiments.results import CURVES, SCORES, Result
from experiments.study import FOLDER, Question, Study
from fipo.errors import DataError
from fipo.report.style import MUTED, PHASES, styled, to_png

TITLES = {
    "avg_at_k": "avg@k",
    "cons_at_k": "cons@k",
    "pass_at_k": "pass@k",
    "mean_response_tokens": "mean response (tokens)",
}
GRID = 60
"""Points of a curve over sampled tokens."""


def write_report(study: Study, results: Sequence[Result], document: Path) -> list[Path]:
    """Write the document and its figures beside it; returns the files.

    Raises:
        DataError: the text names a question that the study does not have, or no seed has all arms of one.
    """
    images = document.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    written = [document]

    def figure(name: str) -> str:
        path = images / f"{document.stem}-{name}.png"
        path.write_bytes(to_png(curves_figure(study, _question(study, name), results)))
        written.append(path)
        return f"![{study.questions[name].title}](images/{path.name})"

    def table(name: str) -> str:
        return score_table(study, _question(study, name), results)

    def value(task: str, arm: str, score: str = "avg_at_k") -> str:
        return _text(score, mean_over_seeds(list(_scores(results, task, arm, score).values())))

    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    text = environment.from_string((FOLDER / f"{study.name}.md").read_text(encoding="utf-8"))
    names = {result.trial.name for result in results}
    document.write_text(
        text.render(study=study, table=table, figure=figure, value=value, trials=len(results), names=sorted(names)),
        encoding="utf-8",
    )
    return written


def score_table(study: Study, question: Question, results: Sequence[Result]) -> str:
    """Scores of each arm, and what it adds to the baseline: paired by seed, 95 % intervals over seeds."""
    heads = ["task", "arm", *TITLES.values(), f"avg@k over {study.baseline}", f"tokens over {study.baseline}", "seeds"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for task in study.tasks:
        for arm in _arms(study, question):
            found = {score: _scores(results, task, arm, score) for score in SCORES}
            if not found["avg_at_k"]:
                continue
            means = [_text(score, mean_over_seeds(list(found[score].values()))) for score in SCORES]
            changes = ["", ""]
            if arm != study.baseline:
                changes = [
                    _change(score, _paired(results, task, study.baseline, arm, score))
                    for score in ("avg_at_k", "mean_response_tokens")
                ]
            lines.append(f"| {' | '.join([task, f'`{arm}`', *means, *changes, str(len(found['avg_at_k']))])} |")
    return "\n".join(lines)


@styled
def curves_figure(study: Study, question: Question, results: Sequence[Result]) -> Figure:
    """Every curve over sampled tokens, a row a task: mean over seeds, and the range of the seeds."""
    figure = Figure(figsize=(3.1 * len(CURVES), 2.7 * len(study.tasks)))
    axes = figure.subplots(len(study.tasks), len(CURVES), squeeze=False)
    for row, task in zip(axes, study.tasks):
        for ax, (metric, title) in zip(row, CURVES.items()):
            for colour, arm in zip(PHASES, _arms(study, question)):
                chosen = [result for result in results if (result.trial.task, result.trial.arm) == (task, arm)]
                if chosen:
                    tokens, curves = _on_one_axis(chosen, metric)
                    ax.plot(tokens, curves.mean(axis=0), color=colour, label=arm)
                    ax.fill_between(
                        tokens, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0
                    )
            ax.set_title(title)
            ax.set_xlabel("sampled response tokens")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
        row[0].set_ylabel(task)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=8, labelcolor=MUTED)
    return figure


def _on_one_axis(results: Sequence[Result], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """[GRID] tokens and [seeds, GRID] values, as far as all seeds go."""
    first, last = max(result.tokens[0] for result in results), min(result.tokens[-1] for result in results)
    grid = np.linspace(first, last, GRID)
    curves = []
    for result in results:
        logged = np.isfinite(result.curves[metric])
        curves.append(np.interp(grid, result.tokens[logged], result.curves[metric][logged]))
    return grid, np.array(curves)


def _arms(study: Study, question: Question) -> Iterable[str]:
    return dict.fromkeys((study.baseline, *question.arms))


def _question(study: Study, name: str) -> Question:
    if name not in study.questions:
        raise DataError(f"study {study.name}: its text asks for {name!r}; questions are {', '.join(study.questions)}")
    return study.questions[name]


def _scores(results: Sequence[Result], task: str, arm: str, score: str) -> Mapping[int, float]:
    """By seed."""
    return {
        result.trial.seed: result.scores[score]
        for result in results
        if (result.trial.task, result.trial.arm) == (task, arm)
    }


def _paired(results: Sequence[Result], task: str, baseline: str, arm: str, score: str) -> Mean | None:
    """The difference over the seeds that have both; they share the warmed-up model and the order of the data."""
    before, after = _scores(results, task, baseline, score), _scores(results, task, arm, score)
    seeds = sorted(before.keys() & after.keys())
    return mean_over_seeds([after[seed] - before[seed] for seed in seeds]) if seeds else None


def _text(score: str, mean: Mean) -> str:
    scale, digits = (1.0, 2) if score == "mean_response_tokens" else (100.0, 1)
    return f"{scale * mean.value:.{digits}f} ± {scale * mean.half_width:.{digits}f}"


def _change(score: str, mean: Mean | None) -> str:
    if mean is None:
        return ""
    scale, digits = (1.0, 2) if score == "mean_response_tokens" else (100.0, 1)
    text = f"{scale * mean.value:+.{digits}f} ± {scale * mean.half_width:.{digits}f}"
    return f"**{text}**" if mean.differs_from_zero else text
