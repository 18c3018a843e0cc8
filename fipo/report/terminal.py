"""Results as tables for the terminal: one run before and after RL, or run against run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fipo.evaluation.estimators import Difference
from fipo.evaluation.results import METRICS, BenchmarkResult
from fipo.records import Estimate
from fipo.report import wording
from fipo.report.data import Comparison, ReportData, against_first

if TYPE_CHECKING:
    from fipo.run.verify import Link

_STYLES = {"better": "bold green", "worse": "bold red", "": ""}


def terminal_table(data: ReportData) -> Group:
    """Warm-up against trained model on every benchmark, and the time of each step; `rich.print` shows it."""
    tables = [_benchmark(comparison) for comparison in data.benchmarks]
    return Group(*tables, *([_seconds(data.seconds)] if data.seconds else []))


def links_table(links: Sequence[Link]) -> Table:
    """The chain as a table for the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("step", "claim", "digest", "holds"):
        table.add_column(column, header_style="dim", overflow="fold")
    words = {True: "yes", False: "[red]no[/red]", None: "not told"}
    for link in links:
        digest = link.digest.removeprefix("sha256:")
        said = words[link.holds] + (f": {escape(link.why)}" if link.why else "")
        table.add_row(link.step, escape(link.what), escape(digest[:16]), said)
    return table


def comparison_table(runs: Mapping[str, BenchmarkResult]) -> Table:
    """Every run's scores on one benchmark, and how they differ from the first run's.

    Args:
        runs: results on the same problems by run name; the first is the baseline.

    Raises:
        DataError: fewer than two runs, or they answered different problems or not equally often.
    """
    comparisons = against_first(runs)
    summaries = {name: result.scores() for name, result in runs.items()}
    baseline, first = next(iter(summaries.items()))
    table = _table(
        f"{first.benchmark}: {first.problems:,} problems, {first.k} response{'s' * (first.k > 1)} each",
        f"Change: points against {baseline}, paired by problem. In brackets: 95% bootstrap intervals",
        ("", "run", "score", "change", "p"),
        names=2,
    )
    for metric in METRICS:
        table.add_row(wording.MEANINGS[metric][0].format(k=first.k), Text(baseline), _score(getattr(first, metric)))
        for name, comparison in comparisons.items():
            change, score = comparison.differences[metric], _score(getattr(summaries[name], metric))
            table.add_row("", Text(name), score, _change(change), wording.p_value(change))
        table.add_section()
    table.add_row("length", Text(baseline), wording.tokens(first.mean_response_tokens))
    for name in comparisons:
        length = wording.tokens(summaries[name].mean_response_tokens)
        table.add_row("", Text(name), length, wording.growth(first, summaries[name]))
    return table


def _benchmark(comparison: Comparison) -> Table:
    before, after = comparison.baseline.scores(), comparison.candidate.scores()
    table = _table(
        f"{comparison.name}: {after.problems:,} held-out problems, {after.k} response{'s' * (after.k > 1)} each",
        "Change: points, paired by problem. In brackets: 95% bootstrap intervals",
        ("", "warm-up", "trained", "change"),
    )
    for metric in METRICS:
        scores = (_score(getattr(summary, metric)) for summary in (before, after))
        name, _ = wording.MEANINGS[metric]
        table.add_row(name.format(k=after.k), *scores, _change(comparison.differences[metric]))
    lengths = (wording.tokens(summary.mean_response_tokens) for summary in (before, after))
    table.add_row("mean response", *lengths, wording.growth(before, after))
    return table


def _seconds(seconds: Mapping[str, float]) -> Table:
    table = Table(title="time", box=box.SIMPLE_HEAD, title_justify="left", show_footer=True, pad_edge=False)
    table.add_column("step", footer="total")
    table.add_column("", footer=wording.duration(sum(seconds.values())), justify="right")
    for step, taken in seconds.items():
        table.add_row(Text(step), wording.duration(taken))
    return table


def _table(title: str, caption: str, columns: tuple[str, ...], names: int = 1) -> Table:
    """`title` may hold any text; the first `names` columns are left-aligned."""
    table = Table(
        title=Text(title),
        caption=Text(caption),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < names else "right")
    return table


def _score(estimate: Estimate) -> Text:
    return Text.assemble(wording.percent(estimate.value), " ", (wording.interval(estimate), "dim"))


def _change(change: Difference) -> Text:
    return Text(wording.points(change), style=_STYLES[wording.mood(change)])
