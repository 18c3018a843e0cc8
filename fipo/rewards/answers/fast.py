r"""The common forms without a grammar: integers, decimals, `a/b`, `\frac{a}{b}` and choice letters.

A property test holds it to `fipo.rewards.answers.compare`: where it answers, both answer the same.
"""

from __future__ import annotations

import re
from fractions import Fraction

_INTEGER = re.compile(r"[-+]?\d{1,100}", re.ASCII)
_DECIMAL = re.compile(r"[-+]?\d{1,40}\.\d{1,40}", re.ASCII)
_FRACTION = re.compile(r"(-?)(?:\\[dt]?frac\{(\d{1,40})\}\{(\d{1,40})\}|(\d{1,40})/(\d{1,40}))", re.ASCII)
_LETTER = re.compile("[A-Z]")


def quickly(given: str, gold: str) -> bool | None:
    """Whether two answers of a common form are the same; None where this cannot tell."""
    one, two = _value(given), _value(gold)
    if one is None or two is None:
        return given == gold if _LETTER.fullmatch(given) and _LETTER.fullmatch(gold) else None
    if one[0] == two[0]:
        return True
    # A long decimal may stand for a fraction that it rounds.
    return None if {one[1], two[1]} == {"decimal", "fraction"} else False


def _value(text: str) -> tuple[Fraction | int, str] | None:
    if _INTEGER.fullmatch(text):
        return int(text), "integer"
    if _DECIMAL.fullmatch(text):
        return Fraction(text), "decimal"
    match = _FRACTION.fullmatch(text)
    if not match or not int(match[3] or match[5]):
        return None
    return Fraction(int(match[1] + (match[2] or match[4])), int(match[3] or match[5])), "fraction"
