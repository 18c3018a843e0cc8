"""What a study found, as one HTML file that needs nothing else: the last task of its pipeline shows it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from jinja2 import Environment
from rich.console import Console
from rich.markdown import Markdown

from fipo.figures import to_svg
from fipo.study.credit import role_table
from fipo.study.report import differences_figure, score_table, verdict_table
from fipo.study.results import Result
from fipo.study.study import Study

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title></head>
<body style="max-width: 1320px; margin: 48px auto; padding: 0 24px; font-family: system-ui, sans-serif; color: #0f172a">
<h1 style="font-size: 26px">{{ title }}</h1>
{{ figure | safe }}
{{ tables | safe }}
</body>
</html>
"""


def study_page(study: Study, results: Sequence[Result]) -> str:
    """Verdicts, differences and scores of each arm over the seeds."""
    console = Console(record=True, file=io.StringIO(), width=200)
    tables = [verdict_table(study, results), *(score_table(study, each, results) for each in study.asked.values())]
    for table in [*tables, role_table(study, results)]:
        console.print(Markdown(table))
    shown = console.export_html(inline_styles=True, code_format='<pre style="overflow-x: auto">{code}</pre>')
    title = f"{study.name}: {len(results)} finished trials, every arm against {study.baseline}"
    figure = to_svg(differences_figure(study, results), f"What every arm adds to {study.baseline}")
    return Environment(autoescape=True).from_string(PAGE).render(title=title, figure=figure, tables=shown)
