"""The run report, while the run lives and at its end: one HTML file that needs neither network nor scripts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fipo.evaluation.results import METRICS
from fipo.figures import to_svg
from fipo.records import Scores
from fipo.redaction import redact
from fipo.report import benchmark_figures, training_figures, wording
from fipo.report.data import Comparison, ReportData, TokenInfluence, series
from fipo.report.tokens import coloured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "learning": (
        "Learning",
        "One point a step. Accuracy of the sampled responses should rise with the reward; FIPO's mark is that response "
        "length rises with them. Dark band: quartiles. Pale band: shortest and longest response.",
    ),
    "warm-up": ("Warm-up", "The loss on demonstrations, before RL; it should fall and then level off."),
    "length": (
        "Response length before and after",
        "Left: where the mass moved; dashed lines are means. Right: whether longer responses are more often right, the "
        "reason for the move; the area of a dot is its share of responses.",
    ),
    "influence": (
        "Influence weights",
        "A weight of 1 everywhere is DAPO. Look for a spread (dark band: one standard deviation, pale band: extremes) "
        "that grows over the updates of a step; in the first one the policy has not moved yet, so it must be 0. A "
        "large share at the clip says that the bounds decide, not Future-KL.",
    ),
    "attempts": (
        "pass@k, and the problems behind it",
        "Left: with k attempts a warm-up model may reach what the trained one does at once; a gap that stays at the "
        "largest k is new ability. Right: problems should leave the left edge for the right one.",
    ),
    "stability": (
        "Stability",
        "Entropy that falls to zero ends exploration; KL or gradient norm that jumps announces a collapse.",
    ),
}


def build_report(data: ReportData) -> str:
    """The report as HTML; whatever comes from data, models or configuration is escaped.

    KFP's and MLflow's pages show it in a sandbox without scripts and network: styles and figures are inline, and the
    numbers behind a token are its tooltip.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    words = (wording.percent, wording.interval, wording.change, wording.p_value, wording.count, wording.duration)
    environment.filters |= {word.__name__: word for word in words} | {"along": _along, "is_web": _is_web}
    template = environment.from_string((files("fipo.report") / "template.html").read_text(encoding="utf-8"))
    page = template.render(
        data=data,
        headline=wording.headline(data),
        tiles=_tiles(data),
        benchmarks=[_benchmark(comparison) for comparison in data.benchmarks],
        figures=_figures(data),
        response=data.tokens and _response(data.tokens),
        time_panels=_svgs(training_figures.step_time(data.history), "Seconds of an RL step"),
    )
    return redact(page)


class Tile(NamedTuple):
    """One of the large numbers under the headline."""

    name: str
    value: str
    note: str
    before: str = ""
    mood: str = ""


def _tiles(data: ReportData) -> list[Tile]:
    return _score_tiles(data) if data.benchmarks else _live_tiles(data)


def _live_tiles(data: ReportData) -> list[Tile]:
    """The newest numbers beside the first."""
    tiles = []
    for name, metric, word in (
        ("accuracy, sampled in training", "rollout/accuracy", wording.percent),
        ("accuracy, validation problems", "validation/accuracy", wording.percent),
        ("mean response, tokens", "rollout/response_tokens_mean", wording.count),
        ("influence weight f", "train/influence_weight_mean", "{:.3f}".format),
    ):
        steps, values = series(data.history, metric)
        if len(steps):
            first = word(float(values[0])) if len(steps) > 1 else ""
            tiles.append(Tile(name, word(float(values[-1])), f"RL step {steps[-1]:,} of {data.steps:,}", before=first))
    _, spread = series(data.history, "train/influence_weight_std")
    if len(spread):
        tiles[-1] = tiles[-1]._replace(note=f"± {spread[-1]:.3f}; 1 everywhere is DAPO", before="")
    return tiles


def _score_tiles(data: ReportData) -> list[Tile]:
    first = data.benchmarks[0]
    before, after = first.baseline.scores(), first.candidate.scores()
    tiles = [
        _score_tile("accuracy", "avg_at_k", first, before, after),
        _score_tile("majority vote", "cons_at_k", first, before, after),
        Tile(
            "mean response, tokens",
            wording.count(after.mean_response_tokens),
            wording.growth(before, after),
            before=wording.count(before.mean_response_tokens),
        ),
    ]
    if data.gate:
        verdict = ("champion", "better") if data.gate.passed else ("not promoted", "worse")
        tiles.append(Tile("gate", verdict[0], data.gate.reason, mood=verdict[1]))
    return tiles


def _score_tile(name: str, metric: str, comparison: Comparison, before: Scores, after: Scores) -> Tile:
    scores = [wording.percent(getattr(summary, metric).value) for summary in (before, after)]
    score_name = wording.MEANINGS[metric][0].format(k=after.k)
    note = f"{wording.points(comparison.differences[metric])} points"
    return Tile(f"{name}, {score_name}", scores[1], note, before=scores[0])


def _benchmark(comparison: Comparison) -> dict[str, Any]:
    before, after = comparison.baseline.scores(), comparison.candidate.scores()
    rows = []
    for metric in METRICS:
        name, meaning = wording.MEANINGS[metric]
        change = comparison.differences[metric]
        rows.append(
            {
                "name": name.format(k=after.k),
                "meaning": meaning,
                "before": getattr(before, metric),
                "after": getattr(after, metric),
                "change": change,
                "mood": wording.mood(change),
            }
        )
    growth = wording.growth(before, after)
    return {"name": comparison.name, "before": before, "after": after, "rows": rows, "growth": growth}


def _figures(data: ReportData) -> list[dict[str, Any]]:
    first, fipo = next(iter(data.benchmarks), None), data.loss == "fipo"
    drawn = {
        "learning": training_figures.learning_curves(data.history),
        "warm-up": training_figures.warm_up(data.warmup),
        "length": benchmark_figures.length_distribution(first) if first else [],
        "influence": training_figures.influence_weights(data.history) if fipo else [],
        "attempts": benchmark_figures.attempts(first) if first else [],
        "stability": training_figures.stability(data.history),
    }
    return [
        {"title": _CAPTIONS[key][0], "caption": _CAPTIONS[key][1], "panels": _svgs(panels, _CAPTIONS[key][0])}
        for key, panels in drawn.items()
        if panels
    ]


def _response(influence: TokenInfluence) -> dict[str, Any]:
    panels = training_figures.token_influence(influence)
    return {"coloured": coloured(influence), "panels": _svgs(panels, "Influence by position")}


def _svgs(panels: Sequence[Figure], title: str) -> list[Markup]:
    return [Markup(to_svg(panel, f"{title}, {index}")) for index, panel in enumerate(panels, start=1)]


def _along(share: float) -> str:
    """Position in the table's little axes, 5 to 225 pixels."""
    return f"{5 + 220 * share:.1f}"


def _is_web(address: str) -> bool:
    """Only these become links: another scheme could run a script."""
    return address.startswith(("http://", "https://"))
