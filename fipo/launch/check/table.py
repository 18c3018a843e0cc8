"""Findings for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from fipo.launch.check.finding import Finding

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def findings_table(findings: Iterable[Finding]) -> Table:
    """One line a finding, what mends it under what was found."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("check", ""):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in findings:
        found = Text(finding.found)
        if finding.remedy:
            found.append(f"\nremedy: {finding.remedy}", style="italic")
        table.add_row(finding.check, Text(finding.status, style=STYLES[finding.status]), found)
    return table
