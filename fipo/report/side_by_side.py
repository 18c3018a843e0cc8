"""Runs side by side: what their trained models score on one benchmark, against the first run's."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment
from rich.console import Console

from fipo.evaluation.results import BenchmarkResult
from fipo.evaluation.tables import read_result
from fipo.figures import to_svg
from fipo.report.benchmark_figures import comparison_figure
from fipo.report.terminal import comparison_table
from fipo.storage import download_directory, open_store

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title></head>
<body style="max-width: 1120px; margin: 48px auto; padding: 0 24px; font-family: system-ui, sans-serif; color: #0f172a">
<h1 style="font-size: 26px">{{ title }}</h1>
{{ figure | safe }}
{{ table | safe }}
</body>
</html>
"""


def load_runs(results: Mapping[str, str], benchmark: str, folder: Path) -> dict[str, BenchmarkResult]:
    """What each run's trained model answered to a benchmark.

    Args:
        results: object-store URI of the evaluation's `results`, by run.
        benchmark: name in `data.benchmarks`.
        folder: where the files are brought to.

    Raises:
        StorageError: the results are not there.
        DataError: a run did not answer this benchmark.
    """
    for run, uri in results.items():
        download_directory(open_store(uri), "", folder / run)
    return {run: read_result(folder / run / "trained" / f"{benchmark}-responses.parquet") for run in results}


def comparison_page(runs: Mapping[str, BenchmarkResult]) -> str:
    """The comparison as one HTML file that needs nothing else.

    Raises:
        DataError: fewer than two runs, or they answered different problems or not equally often.
    """
    first, *others = runs
    console = Console(record=True, file=io.StringIO(), width=110)
    console.print(comparison_table(runs))
    table = console.export_html(inline_styles=True, code_format='<pre style="overflow-x: auto">{code}</pre>')
    page = Environment(autoescape=True).from_string(PAGE)
    figure = to_svg(comparison_figure(runs), "Scores and response lengths by run")
    return page.render(title=f"{', '.join(others)} against {first}", figure=figure, table=table)
