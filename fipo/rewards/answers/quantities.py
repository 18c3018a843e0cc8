"""Whether two quantities are the same: exactly, as functions, or as a decimal that rounds the other; units too."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from mpmath import mp

from fipo.rewards.answers.evaluate import Undefined, equal, number, real
from fipo.rewards.answers.kinds import Quantity
from fipo.rewards.answers.syntax import Apply, Node

SIGNIFICANT_DIGITS = 6
"""A decimal of so many digits stands for what is not decimal, where it is that number rounded or cut off."""


def same_quantity(given: Quantity, gold: Quantity) -> bool:
    """The same number; a unit counts where both name one, a percent sign may stand for a hundredth."""
    if given.unit == gold.unit:
        return same_number(given, gold)
    if given.unit.startswith("mod") or gold.unit.startswith("mod"):
        return (not given.unit or not gold.unit) and same_number(given, gold)
    if given.unit and gold.unit:
        return False
    if "%" in (given.unit, gold.unit):
        hundredth = Apply("percent", (given.node if given.unit else gold.node,))
        shares = Quantity(hundredth, value=_hundredth(given if given.unit else gold))
        return same_number(given, gold) or same_number(shares, gold if given.unit else given)
    return same_number(given, gold)


def _hundredth(percent: Quantity) -> Fraction | None:
    return None if percent.value is None else percent.value / 100


def same_number(given: Quantity, gold: Quantity) -> bool:
    """Exact where both are rational; a decimal may stand for what it rounds."""
    if given.value is not None and gold.value is not None and given.value == gold.value:
        return True
    if (given.decimals is None) == (gold.decimals is None):
        return (given.value is None or gold.value is None) and equal(given.node, gold.node)
    rounded, full = (given, gold) if given.decimals is not None else (gold, given)
    return rounds(rounded, full) or ((full.value is None) and equal(given.node, gold.node))


def rounds(rounded: Quantity, full: Quantity, *, at_least: int = SIGNIFICANT_DIGITS) -> bool:
    """Whether a decimal is the other number to so many significant digits, rounded or cut off."""
    if rounded.value is None or rounded.decimals is None or not rounded.value:
        return False
    scaled = rounded.value * Fraction(10) ** rounded.decimals
    if len(str(abs(scaled.numerator))) < at_least or (full.value is not None and full.value.denominator == 1):
        return False
    try:
        with mp.workprec(200 + 8 * abs(rounded.decimals)):
            exactly = (
                full.value * Fraction(10) ** rounded.decimals if full.value is not None else _scaled(full.node, rounded)
            )
            return bool(scaled in (_nearest(exactly), _cut(exactly)))
    except Undefined:
        return False


def _scaled(node: Node, rounded: Quantity) -> Any:
    value = number(real(node))
    if not mp.isfinite(value):
        raise Undefined("infinite")
    return value * mp.mpf(10) ** (rounded.decimals or 0)


def _nearest(value: Any) -> int:
    return int(mp.floor(abs(number(value)) + mp.mpf(1) / 2)) * (1 if value > 0 else -1)


def _cut(value: Any) -> int:
    return int(mp.floor(abs(number(value)))) * (1 if value > 0 else -1)
