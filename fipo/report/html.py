"""The run report: one HTML file that needs nothing else, neither network nor scripts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fipo.evaluation.results import METRICS
from fipo.report import figures, wording
from fipo.report.data import Comparison, ReportData
from fipo.report.style import to_svg
from fipo.report.tokens import coloured

_CAPTIONS = {
    "learning": (
        "Learning",
        "One point a step. Accuracy of the sampled responses should rise with the reward; FIPO's mark is that response "
        "length rises with them. Dark band: quartiles. Pale band: shortest and longest response.",
    ),
    "length": (
        "Response length before and after",
        "Left: where the mass moved; dashed lines are means. Right: whether longer responses are more often right, the "
        "reason for the move; the area of a dot is its share of responses.",
    ),
    "influence": (
        "Influence weights",
        "A weight of 1 everywhere is DAPO. Look for a range that leaves 1, and for a spread that grows over the "
        "mini-batches of a step: in the first, the policy has not moved yet. A large share at the clip says that the "
        "bounds decide, not Future-KL.",
    ),
    "pass": (
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
    words = (wording.percent, wording.interval, wording.points, wording.p_value, wording.tokens, wording.duration)
    environment.filters |= {word.__name__: word for word in words} | {"along": _along, "is_web": _is_web}
    template = environment.from_string((files("fipo.report") / "template.html").read_text(encoding="utf-8"))
    return template.render(
        data=data,
        headline=wording.headline(data),
        tiles=_tiles(data),
        benchmarks=[_benchmark(comparison) for comparison in data.benchmarks],
        figures=_figures(data),
        response=data.tokens and coloured(data.tokens),
    )


class Tile(NamedTuple):
    """One of the large numbers under the headline."""

    name: str
    before: str
    value: str
    note: str
    mood: str = ""


def _tiles(data: ReportData) -> list[Tile]:
    first = data.benchmarks[0]
    before, after = first.warmup.summary(), first.trained.summary()
    tiles = []
    for metric in ("avg_at_k", "cons_at_k"):
        name, meaning = wording.MEANINGS[metric]
        scores = (getattr(summary, metric).value for summary in (before, after))
        note = f"{wording.points(first.difference(metric))} points"
        tiles.append(Tile(f"{meaning} ({name.format(k=after.k)})", *map(wording.percent, scores), note))
    growth = after.mean_response_tokens / before.mean_response_tokens
    tiles.append(
        Tile(
            "mean response",
            f"{before.mean_response_tokens:,.1f}",
            wording.tokens(after.mean_response_tokens),
            f"× {growth:.2f}",
        )
    )
    if data.gate:
        verdict = ("champion", "better") if data.gate.passed else ("not promoted", "worse")
        tiles.append(Tile("gate", "", verdict[0], data.gate.reason, verdict[1]))
    return tiles


def _benchmark(comparison: Comparison) -> dict[str, Any]:
    before, after = comparison.warmup.summary(), comparison.trained.summary()
    rows = []
    for metric in METRICS:
        name, meaning = wording.MEANINGS[metric]
        change = comparison.difference(metric)
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
    return {"name": comparison.name, "before": before, "after": after, "rows": rows}


def _figures(data: ReportData) -> list[dict[str, Any]]:
    first = data.benchmarks[0]
    drawn = {
        "learning": figures.learning_curves(data.history),
        "length": figures.length_distribution(first),
        "influence": figures.influence_weights(data.history),
        "pass": figures.pass_curve(first),
        "stability": figures.stability(data.history),
    }
    shown = []
    for key, figure in drawn.items():
        if figure:
            title, caption = _CAPTIONS[key]
            shown.append({"title": title, "caption": caption, "svg": Markup(to_svg(figure, title))})
    return shown


def _along(share: float) -> str:
    """Position in the table's little axes, 5 to 225 pixels."""
    return f"{5 + 220 * share:.1f}"


def _is_web(address: str) -> bool:
    """Only these become links: another scheme could run a script."""
    return address.startswith(("http://", "https://"))
