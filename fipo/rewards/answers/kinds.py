"""The kinds of answers. Only like is compared with like; `fipo.rewards.answers.compare` has the few conversions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from fipo.rewards.answers.syntax import Node


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or an expression, with its unit."""

    node: Node
    unit: str = ""
    decimals: int | None = None
    """Digits after the point where it is written as a decimal, the exponent of ten taken off; None where it is not."""
    value: Fraction | None = None
    """Where it is rational."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain of sides with `=`, `<`, `\\le`, `\\ne`, `\\in`, `\\equiv`, … between them."""

    operators: tuple[str, ...]
    sides: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Several answers."""

    items: tuple[Answer, ...]
    shape: str
    """`list` (`1, 2`), `set` (braces), `tuple` (parentheses, angles) or `brackets` (`[1, 2]`)."""
    joined: str = ","
    """What stands between the items of a list: `,`, `or`, `and`."""
    decimal: Fraction | None = field(default=None, compare=False)
    """What `1000,99` is where the comma is a decimal one; compared only with a decimal."""


@dataclass(frozen=True, slots=True)
class Span:
    """An interval: ends, and whether each belongs to it."""

    low: Answer
    high: Answer
    closed_low: bool
    closed_high: bool


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals and finite sets, or what is taken from one (`\\setminus`)."""

    parts: tuple[Answer, ...]
    removed: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class BaseNumber:
    """Digits in a base."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """`a:b` or `a:b:c`; a clock time where it looks like one."""

    terms: tuple[Quantity, ...]
    is_time: bool
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A letter that names an option, and what stands beside it."""

    letter: str
    beside: Answer | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """The empty set, or that there is no solution."""


@dataclass(frozen=True, slots=True)
class Text:
    """Anything else: compared as text, whole."""

    text: str
    symbols: Node | None = field(default=None, compare=False)
    """What the letters are as a product: compared only with what is no text."""


Answer = Quantity | Relation | Group | Span | Union | Matrix | BaseNumber | Ratio | Choice | Empty | Text
