"""The result of a run as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fipo.evaluation.estimators import Difference, Estimate
from fipo.evaluation.results import METRICS
from fipo.report import wording
from fipo.report.data import Comparison, ReportData

_STYLES = {"better": "bold green", "worse": "bold red", "": ""}


def terminal_table(data: ReportData) -> Group:
    """Warm-up against trained model on every benchmark, and the time of each step; `rich.print` shows it."""
    tables = [_benchmark(comparison) for comparison in data.benchmarks]
    return Group(*tables, *([_seconds(data.seconds)] if data.seconds else []))


def _benchmark(comparison: Comparison) -> Table:
    before, after = comparison.warmup.summary(), comparison.trained.summary()
    title = Text(f"{comparison.name}: {after.problems:,} held-out problems, {after.k} responses each")
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False)
    table.caption = "In brackets: 95 % bootstrap intervals over problems"
    for column in ("", "warm-up", "trained", "change (points)"):
        table.add_column(column, justify="right" if column else "left")
    for metric in METRICS:
        change = comparison.difference(metric)
        estimates = (getattr(before, metric), getattr(after, metric))
        name, _ = wording.MEANINGS[metric]
        table.add_row(name.format(k=after.k), *map(_score, estimates), _change(change))
    growth = after.mean_response_tokens / before.mean_response_tokens
    lengths = (wording.tokens(summary.mean_response_tokens) for summary in (before, after))
    table.add_row("mean response", *lengths, f"× {growth:.2f}")
    return table


def _score(estimate: Estimate) -> Text:
    return Text.assemble(wording.percent(estimate.value), " ", (wording.interval(estimate), "dim"))


def _change(change: Difference) -> Text:
    return Text(wording.points(change), style=_STYLES[wording.mood(change)])


def _seconds(seconds: Mapping[str, float]) -> Table:
    table = Table(title="time", box=box.SIMPLE_HEAD, title_justify="left", show_footer=True, pad_edge=False)
    table.add_column("step", footer="total")
    table.add_column("", footer=wording.duration(sum(seconds.values())), justify="right")
    for step, taken in seconds.items():
        table.add_row(Text(step), wording.duration(taken))
    return table
