"""What a check finds, for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Status = Literal["ok", "not here", "warning", "failed"]
"""`not here`: the machine has not got it, and that is no fault."""
STYLES = {"ok": "green", "not here": "dim", "warning": "yellow", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    check: str
    status: Status
    found: str
    remedy: str = ""
    """The command or file that mends it; empty when all is well, or where what was found says it."""


def excerpt(text: str, characters: int) -> str:
    """For one line or a small box: the beginning and the end of a text, of so many characters together, and between
    them how many are left out; the text itself where that is no longer."""
    end = characters // 3  # how it ends matters, and less of it tells
    short = f"{text[: characters - end]} [… {len(text) - characters:,} characters …] {text[-end:]}"
    return min(text, short, key=len)


def failed(findings: Sequence[Finding]) -> bool:
    """Whether something is wrong without which a run cannot end well."""
    return any(finding.status == "failed" for finding in findings)


def print_findings(findings: Sequence[Finding], *, as_json: bool = False) -> None:
    """As a table, in a pipe with lines as wide as a log's; or as one JSON object: ok, and the checks."""
    if as_json:
        print(json.dumps({"ok": not failed(findings), "checks": [asdict(finding) for finding in findings]}))
        return
    console().print(findings_table(findings))


def console(columns: int = 120) -> Console:
    """For tables: as wide as the terminal, or, in a pipe that says nothing of its width, so many columns."""
    from rich.console import Console

    in_a_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=columns if in_a_pipe else None)


def findings_table(findings: Iterable[Finding]) -> Table:
    """One line a finding, what mends it under what was found."""
    from rich.table import Table
    from rich.text import Text

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
