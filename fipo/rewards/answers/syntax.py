"""Expressions as small trees; what the parser makes and evaluation reads."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


class Unreadable(Exception):
    """No expression of the grammar; its text may still be compared as text."""


@dataclass(frozen=True, slots=True)
class Number:
    """An integer or an exact decimal."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, or a constant (`\\pi`, `e`, `i`, `\\infty`) by its name; `#1` is what the first sum runs over."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation on expressions: `+`, `*`, `/`, `^`, `neg`, `pm`, `sqrt`, `sin`, …; `f(x)` is `call:f`."""

    operation: str
    arguments: tuple[Node, ...]


Node = Number | Symbol | Apply

CONSTANTS = frozenset({"pi", "e", "i", "infty"})


def symbols(node: Node) -> frozenset[str]:
    """All names in an expression."""
    if isinstance(node, Symbol):
        return frozenset({node.name})
    if isinstance(node, Apply):
        return frozenset().union(*(symbols(argument) for argument in node.arguments))
    return frozenset()


def names(node: Node) -> frozenset[str]:
    """The variables in an expression; constants and what sums run over left out."""
    return frozenset(name for name in symbols(node) if name not in CONSTANTS and name[0] != "#")


def operations(node: Node) -> frozenset[str]:
    """The operations in an expression."""
    if isinstance(node, Apply):
        return frozenset({node.operation}).union(*(operations(argument) for argument in node.arguments))
    return frozenset()


def constants(node: Node) -> frozenset[str]:
    """The constants in an expression."""
    return symbols(node) & CONSTANTS
