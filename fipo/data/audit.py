r"""Reference answers put to the test: each must accept itself, and nothing that is merely like it or says nothing.

A reference that the verifier reads too freely pays for wrong answers, and a policy finds that out. So each is verified
against itself, against neighbours (one more, the other sign, one digit, a fraction upside down) and against a dozen
answers that a policy could give to every problem.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from fipo.config import Source
from fipo.data.sources import Reason, RowError, read_rows
from fipo.data.validation import to_problem
from fipo.outcome import Outcome
from fipo.rewards.pool import VerifierPool

MASTER_KEYS = (
    "Thought process:",
    "Let's solve this problem step by step.",
    "The answer is as stated above.",
    *(
        rf"\boxed{{{answer}}}"
        for answer in (
            "1=2",
            "x=x",
            "0=0",
            r"\frac{0}{0}",
            r"\infty-\infty",
            r"\{0,1,2,3,4,5,6,7,8,9\}",
            "ABCDE",
            r"\text{the correct answer}",
            r"0 \text{ or } 1",
            "?",
        )
    ),
)
"""Responses that are right for no problem."""
EXAMPLES = 3
"""Rows shown of each fault."""

_RATIONAL = re.compile(r"-?\d{1,100}(?:/\d{1,100}|\.\d{1,100})?", re.ASCII)
_FRACTION = re.compile(r"\\([dt]?)frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_SLASH = re.compile(r"(\d+)/(\d+)")

AUDITED = ("math", "exact", "choice")
"""Graders that read an answer; a reference of another cannot be written as a response."""


class Audit:
    """Judges reference answers by the grader that training will use.

    Args:
        graders: in processes that can be killed: a hostile reference must not keep the preparation busy.
    """

    def __init__(self, graders: VerifierPool) -> None:
        self._graders = graders

    def __call__(self, grader: str, answer: str, columns: str = "{}") -> str:
        """Why the grader cannot grade against `answer`; empty where it can be read, and accepts itself.

        Raises:
            RowError: it accepts what is another answer, or none.
        """
        if reason := self._graders.refusal(grader, answer, columns):
            return reason
        if grader in AUDITED:
            wrong = [*neighbours(answer), *(("a master key", key) for key in MASTER_KEYS)]
            found = self._graders.grade([(grader, response, answer, columns) for _, response in wrong])
            for (what, response), grade in zip(wrong, found, strict=True):
                if grade.outcome is Outcome.CORRECT:
                    raise RowError(Reason.GULLIBLE, f"{answer[:100]!r} accepts {what}: {response[:100]!r}")
        return ""


def neighbours(answer: str) -> Iterator[tuple[str, str]]:
    """What differs from `answer` in one way: (in which, the response)."""
    for what, other in _neighbours(answer):
        if other != answer and not (_value(other) is not None and _value(other) == _value(answer)):
            yield what, rf"\boxed{{{other}}}"


def _neighbours(answer: str) -> Iterator[tuple[str, str]]:
    value = _value(answer)
    if value is not None:
        yield "one more", str(value + 1)
        yield "the other sign", str(-value)
    elif not re.search(r"\\infty|∞|\\pm|±", answer):
        yield "one more", f"{answer}+1"
        if re.search(r"[1-9A-Za-z]", answer.replace(r"\circ", "")):
            yield "the other sign", f"-({answer})"
    if digits := list(re.finditer(r"[0-9]", answer)):
        at = digits[-1].start()
        yield "another digit", f"{answer[:at]}{(int(answer[at]) + 1) % 10}{answer[at + 1 :]}"
    if match := _FRACTION.search(answer):
        upside_down = rf"\{match[1]}frac{{{match[3]}}}{{{match[2]}}}"
        if match[2].strip() != match[3].strip():
            yield "a fraction upside down", answer[: match.start()] + upside_down + answer[match.end() :]
    elif match := _SLASH.search(answer):
        yield "a fraction upside down", f"{answer[: match.start()]}{match[2]}/{match[1]}{answer[match.end() :]}"


def _value(answer: str) -> Fraction | None:
    try:
        return Fraction(bare) if _RATIONAL.fullmatch(bare := answer.strip(" $")) else None
    except ZeroDivisionError:
        return None


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
