r"""Numbers as they are written, and the two branches of `\pm`."""

from __future__ import annotations

import re
from fractions import Fraction

from fipo.rewards.answers.split import thousands
from fipo.rewards.answers.syntax import Apply, Node

_NUMBER = re.compile(
    r"([-+]?)\s*(\d*)(?:\.(\d*))?(?:\s*(?:[eE]\s*([-+]?\d+)|\*\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))))?"
)
_SIMPLE_FRACTION = re.compile(
    r"(-?)\s*(?:\\frac\s*\{\s*(\d{1,99})\s*\}\s*\{\s*(\d{1,99})\s*\}|\\frac\s*(\d)\s*(\d)|(\d{1,99})/(\d{1,99}))"
)


def written_number(text: str) -> tuple[Fraction, int | None] | None:
    r"""The value of an integer or decimal, `1.5e3` and `1.5*10^3` too, and its digits after the point."""
    text = thousands(text)
    match = _NUMBER.fullmatch(text)
    if not match or not (match[2] or match[3]):
        return None
    digits = match[3] or ""
    exponent = int(match[4] or match[5] or match[6] or 0)
    if abs(exponent) > 10_000:
        return None
    value = Fraction(int(match[1] + (match[2] or "0") + digits), 1) * Fraction(10) ** (exponent - len(digits))
    return value, (len(digits) - exponent if match[3] is not None or exponent else None)


def rational(text: str) -> Fraction | None:
    r"""The value of an integer, decimal, `a/b` or `\frac{a}{b}`, told without evaluating anything."""
    number = written_number(text)
    if number:
        return number[0]
    match = _SIMPLE_FRACTION.fullmatch(text)
    if not match or not int(bottom := match[3] or match[5] or match[7]):
        return None
    return Fraction(int(match[1] + (match[2] or match[4] or match[6])), int(bottom))


def branches(node: Node) -> list[Node]:
    r"""The two values of an expression with `\pm`; all its signs change together."""
    if not isinstance(node, Apply):
        return [node]
    versions = [branches(argument) for argument in node.arguments]
    if node.operation in ("pm", "mp"):
        signs = "+-" if node.operation == "pm" else "-+"
        left, right = ((one[0], one[-1]) for one in versions)
        return [_signed(signs[0], left[0], right[0]), _signed(signs[1], left[1], right[1])]
    if all(len(version) == 1 for version in versions):
        return [node]
    return [Apply(node.operation, tuple(version[index] for version in versions)) for index in (0, -1)]


def _signed(sign: str, left: Node, right: Node) -> Node:
    return Apply(sign, (left, right))
