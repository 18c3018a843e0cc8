"""What may be the name of a value: the left side of `x = 5`, `f(2) = 5`, `S_{ABC} = 5`, `x+y = 5`."""

from __future__ import annotations

import re

from fipo.rewards.answers.kinds import Answer, Choice, Group, Quantity, Ratio, Text
from fipo.rewards.answers.syntax import Apply, Node, Number, Symbol, names, operations
from fipo.rewards.answers.units import changes_value

_WORDS = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*|p ?\([^=<>]*(?:=\s?\w+)?\)")
_NAME_OPERATIONS = frozenset(["+", "-", "*", "/", "neg", "abs", "sin", "cos", "tan", "cot", "sec", "csc"])


def is_name(side: Answer) -> bool:
    """A letter, `f(2)`, `\\angle ABC`, words, a determinant, `(x,y)`; or made of those alone: `x+y`, `\\tan A`."""
    if isinstance(side, Text):
        determinant = side.text.startswith((r"\begin{vmatrix}", r"\det"))
        return determinant or (bool(_WORDS.fullmatch(side.text)) and not changes_value(side.text))
    if isinstance(side, Choice):
        return side.beside is None
    if isinstance(side, Group):
        return side.shape == "tuple" and all(is_name(item) for item in side.items)
    if isinstance(side, Ratio):
        return all(map(is_name, side.terms))
    return isinstance(side, Quantity) and not side.unit and not _is_plain(side) and _is_combination(side.node)


def _is_plain(side: Quantity) -> bool:
    """Whether nothing in it has a name."""
    return not names(side.node) and not any(one.startswith("call:") for one in operations(side.node))


def _is_combination(node: Node) -> bool:
    if isinstance(node, Number):
        return False
    if isinstance(node, Symbol) or node.operation.startswith("call:"):
        return True
    return node.operation in _NAME_OPERATIONS and all(_is_combination(one) for one in node.arguments)


def is_one_name(side: Answer) -> bool:
    """A name that a reference may give its value: of a variable, a function's value, a segment; `x+y` is a line."""
    if isinstance(side, Group):
        return all(is_one_name(item) for item in side.items)
    if not isinstance(side, Quantity):
        return True
    node = side.node
    geometric = all(name[0].isupper() or name[0] == "\\" for name in names(node))
    if geometric and not operations(node) & {"+", "-"}:
        return True  # segments, areas and angles, of which no curve is made
    return isinstance(node, Symbol) or (isinstance(node, Apply) and node.operation.startswith("call:"))
