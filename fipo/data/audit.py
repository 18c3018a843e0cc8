"""The reference answers of a data set put to the test (`fipo.rewards.audit`), row by row or as a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fipo.config import Source
from fipo.data.rows import Reason, RowError
from fipo.data.sources import read_rows
from fipo.data.validation import to_problem
from fipo.rewards.pool import GraderPool

EXAMPLES = 3
"""Rows shown of each fault."""


class Audit:
    """Judges reference answers by the grader that training will use.

    Args:
        graders: in processes that can be killed: a hostile reference must not keep the preparation busy.
    """

    def __init__(self, graders: GraderPool) -> None:
        self._graders = graders

    def __call__(self, grader: str, answer: str, columns: str = "{}") -> str:
        """Why the grader cannot grade against `answer`; empty where it can be read, and accepts itself.

        Raises:
            RowError: it accepts what is another answer, or none.
        """
        reason, accepts = self._graders.audit(grader, answer, columns)
        if accepts:
            raise RowError(Reason.GULLIBLE, accepts)
        return reason


@dataclass(slots=True)
class AuditReport:
    """What an audit found in one data set."""

    uri: str
    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Rows by their fault."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first of each fault, with their lines."""

    def lines(self) -> Iterator[str]:
        """The report as text."""
        sound = self.rows - self.faults.total()
        yield f"{self.uri}: {self.rows:,} rows, {sound:,} sound"
        for reason, count in self.faults.most_common():
            yield f"  {count:,} {reason}:"
            yield from (f"    {example}" for example in self.examples[reason])
            if count > EXAMPLES:
                yield f"    and {count - EXAMPLES:,} more"


def audit_source(source: Source, audit: Audit) -> AuditReport:
    """Every row of a data set, held to what preparation holds it to.

    Raises:
        DataError: it is missing or unreadable as a whole.
    """
    report = AuditReport(source.uri)
    for row in read_rows(source):
        report.rows += 1
        try:
            to_problem(row, source, source.uri, refusal=audit, demonstration=False)
        except RowError as error:
            report.faults[error.reason] += 1
            shown = report.examples.setdefault(error.reason, [])
            if len(shown) < EXAMPLES:
                shown.append(f"line {row.line}: {error.detail or row.excerpt(100)}")
    return report
