r"""The verifier of mathematical answers: reads the answer of a response and compares it with the reference.

`fipo.rewards.answers` has the parts: where the answer is, its normal form and kind, and which kinds may be equal.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.answers.compare import same
from fipo.rewards.answers.fast import quickly
from fipo.rewards.answers.interpret import interpret
from fipo.rewards.answers.kinds import Answer, Text
from fipo.rewards.answers.literals import rational
from fipo.rewards.answers.normal import normal
from fipo.rewards.answers.reader import final_answer
from fipo.rewards.answers.units import split_unit

__all__ = ["extract_answer", "final_answer", "parses", "verify"]

_SPACE = re.compile(r"(?<![A-Za-z0-9.]) | (?![A-Za-z0-9.])")


def verify(response: str, answer: str) -> Outcome:
    r"""Compare the final answer of `response` with the reference.

    Hostile input can keep this busy for ever: `GraderPool` gives it a time limit, and the outcome `timeout`.

    Args:
        response: the model's text.
        answer: the reference answer: LaTeX, without `\boxed`.

    Raises:
        RewardError: the reference answer cannot be one (`parses` tells beforehand).
    """
    final = final_answer(response)
    verdict = quickly(final, answer) if final is not None else None
    if verdict is not None:
        return Outcome.CORRECT if verdict else Outcome.WRONG
    gold = _reference(answer)
    if gold is None:
        raise RewardError(
            f"reference answer {answer!r}: there is nothing to compare with; see fipo.rewards.math.parses"
        )
    if final is None:
        return Outcome.UNPARSED
    given = _given(final)
    if given is None:
        return Outcome.UNPARSED
    if same(given, gold) or _spelling(final) == _spelling(answer):
        return Outcome.CORRECT
    return Outcome.UNPARSED if isinstance(given, Text) and not isinstance(gold, Text) else Outcome.WRONG


def parses(answer: str) -> bool:
    """Whether `answer` can serve as a reference: it is an answer of some kind, or whole text."""
    return _reference(answer) is not None


def extract_answer(response: str) -> str | None:
    """The final answer as text, None where there is none: two responses with equal texts give one answer.

    Spelling is normalised (spaces, LaTeX variants, units, thousands separators) and rationals are reduced, so that
    `0.5`, `1/2` and `\\frac12` are one vote; nothing is evaluated, so hostile input is harmless.
    """
    final = final_answer(response)
    if final is None:
        return None
    value, _ = split_unit(normal(final), loose=True)
    number = rational(value)
    return str(number) if isinstance(number, Fraction) else _SPACE.sub("", value) or None


@lru_cache(maxsize=1024)
def _spelling(answer: str) -> str:
    return _SPACE.sub("", normal(answer))


@lru_cache(maxsize=1024)
def _given(text: str) -> Answer | None:
    """Kept, for a group's responses often have equal answers."""
    return interpret(text, loose=True)


@lru_cache(maxsize=1024)
def _reference(text: str) -> Answer | None:
    r"""A reference's kind; None for what is nothing, unfinished (`x=`), or neither readable nor in letters (`3 3`)."""
    gold = interpret(text, loose=False)
    if isinstance(gold, Text) and not re.search(r"(?:[^\W\d_]|°)(?!.*[-+*/=<>^_\\]$)", gold.text, re.DOTALL):
        return None
    return gold
