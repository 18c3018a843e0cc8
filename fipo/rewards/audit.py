r"""A reference answer put to the test: it must accept itself, and nothing that is merely like it or says nothing.

A reference that a grader reads too freely pays for wrong answers, and a policy finds that out. So each is graded
against itself, against neighbours (one more, the other sign, one digit, a fraction upside down) and against a dozen
answers that a policy could give to every problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from fipo.outcome import Outcome
from fipo.rewards.graders import grade, refusal

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
AUDITED = ("math", "exact", "choice")
"""Graders that read an answer; a reference of another cannot be written as a response."""

_RATIONAL = re.compile(r"-?\d{1,100}(?:/\d{1,100}|\.\d{1,100})?", re.ASCII)
_FRACTION = re.compile(r"\\([dt]?)frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_NO_VALUE = re.compile(r"\\circ|\\(?:begin|end)\s*\{\w+\}|\\text\s*\{[^{}]*\}|\([A-Za-z ]+\)")
"""What may stand beside zeros: nothing of it has a sign."""
_SLASH = re.compile(r"(\d+)/(\d+)")


def audit(grader: str, reference: str, columns: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong with a reference answer: (why the grader cannot grade against it, what else it accepts); either is
    empty where there is nothing of the kind.

    Raises:
        ConfigError: there is no such grader.
        RewardError: the grader failed.
    """
    if reason := refusal(grader, reference, columns):
        return reason, ""
    if grader in AUDITED:
        for what, response in (*neighbours(reference), *(("a master key", key) for key in MASTER_KEYS)):
            if grade(grader, response, reference, columns).outcome is Outcome.CORRECT:
                return "", f"{reference[:100]!r} accepts {what}: {response[:100]!r}"
    return "", ""


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
        if re.search(r"[1-9A-Za-z]", _NO_VALUE.sub("", answer)):
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
