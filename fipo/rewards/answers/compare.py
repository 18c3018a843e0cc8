r"""Whether two answers say the same. Only like is compared with like; `CONVERSIONS` has what else may be equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fipo.rewards.answers.evaluate import equal, proportional
from fipo.rewards.answers.kinds import (
    Answer,
    BaseNumber,
    Choice,
    Empty,
    Group,
    Matrix,
    Quantity,
    Ratio,
    Relation,
    Span,
    Text,
    Union,
)
from fipo.rewards.answers.naming import is_name, is_one_name
from fipo.rewards.answers.quantities import rounds, same_number, same_quantity
from fipo.rewards.answers.spans import spans
from fipo.rewards.answers.syntax import Apply, Node, Symbol, names

_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}
_NAMING = frozenset({"=", r"\in", r"\equiv", r"\approx"})


def same(given: Answer, gold: Answer) -> bool:
    """Whether the answer of a response says what the reference says."""
    like = _LIKE.get(type(gold)) if type(given) is type(gold) else None
    if like is not None and like(given, gold):
        return True
    convert = CONVERSIONS.get((type(given), type(gold)))
    return convert is not None and bool(convert(given, gold))


def _relations(given: Relation, gold: Relation) -> bool:
    if len(given.sides) == len(gold.sides):
        if given.operators == gold.operators and _each(given.sides, gold.sides):
            return True
        flipped = tuple(_FLIPPED.get(one, "") for one in reversed(given.operators))
        if flipped == gold.operators and _each(given.sides[::-1], gold.sides):
            return True
    if len(given.sides) == len(gold.sides) == 2 and _general(given, gold):
        return True
    if "=" not in given.operators and "=" not in gold.operators and _variable(given) == _variable(gold):
        return _spans(given, gold)
    return _same_name(given, gold)


def _same_name(given: Relation, gold: Relation) -> bool:
    """`x = 2/4 = 1/2` is `x = 1/2`; `x \\in \\{1\\}` is no `x = 1`."""
    one, two = value_of(given), value_of(gold)
    if given.operators[0] != gold.operators[0] or one is None or two is None or not same(one, two):
        return False
    return same(given.sides[0], gold.sides[0]) or _same_function(given.sides[0], gold.sides[0])


def _same_function(one: Answer, two: Answer) -> bool:
    """Whether one is `y` and the other `f(x)`."""
    nodes = [side.node for side in (one, two) if isinstance(side, Quantity)]
    return Symbol("y") in nodes and any(
        isinstance(node, Apply) and node.operation.startswith("call:") and node.arguments == (Symbol("x"),)
        for node in nodes
    )


def _general(given: Relation, gold: Relation) -> bool:
    """Equations up to a factor, inequalities up to a positive one, sides exchanged or not."""
    one, two = _difference(given), _difference(gold)
    if one is None or two is None:
        return False
    operator, other = given.operators[0], gold.operators[0]
    if operator in ("=", r"\ne"):
        return operator == other and proportional(one, two)
    if operator == other:
        return proportional(one, two, positive=True)
    return _FLIPPED.get(operator) == other and proportional(Apply("neg", (one,)), two, positive=True)


def _difference(relation: Relation) -> Node | None:
    left, right = relation.sides
    if not isinstance(left, Quantity) or not isinstance(right, Quantity) or relation.operators[0] not in _FLIPPED:
        return None
    return Apply("-", (left.node, right.node))


def value_of(relation: Relation, *, of_reference: bool = True) -> Answer | None:
    """What a chain says that its name is: 3 of `x = 3` and `a = b = 3`; None where it names nothing or is no truth.

    Args:
        relation: the chain.
        of_reference: whether the name must be one name; else it may be what was asked for, as in `x+y = 3`.
    """
    if not set(relation.operators) <= _NAMING:
        return None
    first = 1 if is_name(relation.sides[0]) else 0
    exactly = len(relation.operators)
    if r"\approx" in relation.operators[first:]:
        exactly = relation.operators.index(r"\approx", first)
    *before, last = relation.sides[: exactly + 1]
    named = [side for side in before if is_name(side)]
    if not named:
        # A computation, `2+3 = 5` or `17 \\bmod 5 = 2`: it must be true, and of numbers; `5 = 5` is none.
        quantities = [side for side in relation.sides if isinstance(side, Quantity) and not names(side.node)]
        computed = any(isinstance(side.node, Apply) or side.unit.startswith("mod ") for side in quantities)
        if len(quantities) < len(relation.sides) or not computed:
            return None
    elif of_reference and not all(map(is_one_name, named)):
        return None
    if not all(same(side, last) or _congruent(side, last) for side in before if not is_name(side)):
        return None
    return last if all(_is_near(side, last) for side in relation.sides[exactly + 1 :]) else None


def _congruent(side: Answer, last: Answer) -> bool:
    """`3^{100} \\equiv 4 \\pmod{7}`, `17 \\bmod 5 = 2`: the same remainder."""
    if not isinstance(side, Quantity) or not isinstance(last, Quantity) or side.value is None or last.value is None:
        return False
    modulus = (last.unit or side.unit).removeprefix("mod ")
    return modulus.isdecimal() and int(modulus) > 0 and (side.value - last.value) % int(modulus) == 0


def _is_near(approximation: Answer, exactly: Answer) -> bool:
    """Whether what follows `\\approx` is that, rounded or cut off where it is written so."""
    if not isinstance(approximation, Quantity) or not isinstance(exactly, Quantity) or approximation.value is None:
        return False
    written = replace(approximation, decimals=approximation.decimals or 0)
    return same(approximation, exactly) or rounds(written, exactly, at_least=1)


def _variable(relation: Relation) -> frozenset[str]:
    return frozenset().union(*(names(side.node) for side in relation.sides if isinstance(side, Quantity)))


def _groups(given: Group, gold: Group) -> bool:
    if {given.shape, gold.shape} == {"set", "tuple"}:
        return _one_of_group(given, gold)
    if gold.joined == "or" or given.joined == "or":
        one, two = spans(given), spans(gold)
        if one is not None and two is not None:
            return one == two
    if gold.shape == "set" or given.shape == "set":
        return {gold.shape, given.shape} <= {"set", "list"} and _as_sets(given.items, gold.items)
    if gold.shape == "list" and given.shape == "list":
        return _assigned(given.items, gold.items)
    if "list" in (gold.shape, given.shape) and gold.shape != given.shape:
        listed, other = (given, gold) if given.shape == "list" else (gold, given)
        in_order = other.shape == "tuple" and _are_named(listed.items, indexed=True)
        return (in_order and _each(given.items, gold.items)) or _spans(given, gold)  # x > 1, x < 2 is (1, 2)
    return gold.shape == given.shape and _each(given.items, gold.items)


def _assigned(given: Sequence[Answer], gold: Sequence[Answer]) -> bool:
    """Lists in any order, unless the items of one are named (`x=1, y=2`) and those of the other are not."""
    if all(isinstance(item, Group) and item.shape == "tuple" for item in (*given, *gold)):
        return _as_sets(given, gold)  # a solution named twice is one solution
    if len(given) != len(gold):
        return False
    if _are_named(gold) and not any(isinstance(item, Relation) for item in given):
        return _each(given, gold)
    return _permuted(list(given), list(gold))


def _are_named(items: Sequence[Answer], *, indexed: bool = False) -> bool:
    """Whether the items are values of different names, as in `x=1, y=2`: their order is that of the names.

    Args:
        items: of a list.
        indexed: whether `x_1` and `x_2` are different: they are to a tuple, but which root is `x_1` is nobody's to say.
    """
    return (
        all(isinstance(item, Relation) and value_of(item) is not None for item in items)
        and len({_name(item, indexed=indexed) for item in items}) > 1
    )


def _name(item: Answer, *, indexed: bool) -> object:
    side = item.sides[0] if isinstance(item, Relation) else None
    if isinstance(side, Quantity) and isinstance(side.node, Symbol) and not indexed:
        return side.node.name.partition("_")[0]
    return side


def _permuted(given: list[Answer], gold: list[Answer]) -> bool:
    if len(given) != len(gold):
        return False
    for item in gold:
        found = next((index for index, other in enumerate(given) if _same_item(other, item)), None)
        if found is None:
            return False
        given.pop(found)
    return True


def _as_sets(given: Sequence[Answer], gold: Sequence[Answer]) -> bool:
    return all(any(_same_item(one, two) for two in gold) for one in given) and all(
        any(_same_item(one, two) for one in given) for two in gold
    )


def _each(given: Sequence[Answer], gold: Sequence[Answer]) -> bool:
    return len(given) == len(gold) and all(map(_same_item, given, gold))


def _same_item(given: Answer, gold: Answer) -> bool:
    r"""Of several answers: `\{3\}` is 3 only where it is the whole answer."""
    sets = [isinstance(one, Group) and one.shape in ("set", "brackets") for one in (given, gold)]
    return sets[0] == sets[1] and same(given, gold)


def _matrices(given: Matrix, gold: Matrix) -> bool:
    return len(given.rows) == len(gold.rows) and all(map(_each, given.rows, gold.rows))


def _ratios(given: Ratio, gold: Ratio) -> bool:
    """In proportion; clock times are what they read, or the same time of day."""
    if given.is_time and gold.is_time:
        as_read = _clock(given, "") == _clock(gold, "") and (
            not given.suffix or given.suffix == (gold.suffix or given.suffix)
        )
        return as_read or _clock(given, given.suffix) == _clock(gold, gold.suffix)
    if given.suffix or gold.suffix or len(given.terms) != len(gold.terms):
        return False
    if gold.is_time:
        return _terms(given, gold)
    first, other = given.terms[0], gold.terms[0]
    return all(
        equal(Apply("*", (one.node, other.node)), Apply("*", (two.node, first.node)))
        for one, two in zip(given.terms[1:], gold.terms[1:], strict=True)
    ) and not (first.value == 0 or other.value == 0)


def _clock(time: Ratio, suffix: str) -> Sequence[object]:
    """Hours of the day, minutes and seconds."""
    hours, minutes, seconds = (*(term.value for term in time.terms), 0)[:3]
    if suffix and hours is not None and hours <= 12:
        hours = hours % 12 + (12 if suffix == "p" else 0)
    return hours, minutes, seconds


def _terms(given: Ratio, gold: Ratio) -> bool:
    return len(given.terms) == len(gold.terms) and all(map(same_number, given.terms, gold.terms))


def _spans(given: Answer, gold: Answer) -> bool:
    one, two = spans(given), spans(gold)
    return one is not None and two is not None and one == two


def _texts(given: Text, gold: Text) -> bool:
    if given.text == gold.text:
        return True
    of_variables = all(text.symbols is not None and set(text.text) <= set("xyzw") for text in (given, gold))
    return of_variables and equal(given.symbols, gold.symbols)  # type: ignore[arg-type]


def _product(given: Text | Quantity, gold: Text | Quantity) -> bool:
    """`xy` against `x \\cdot y`."""
    word, other = (given, gold) if isinstance(given, Text) else (gold, given)
    if not isinstance(word, Text) or not isinstance(other, Quantity) or word.symbols is None:
        return False
    return equal(word.symbols, other.node)


def _choices(given: Choice, gold: Choice) -> bool:
    if given.letter != gold.letter:
        return False
    return gold.beside is None or given.beside is None or same(given.beside, gold.beside)


def _beside(given: Answer, gold: Answer) -> bool:
    """An option's text in place of its letter, on either side."""
    if isinstance(given, Choice):
        return given.beside is not None and same(given.beside, gold)
    return isinstance(gold, Choice) and gold.beside is not None and same(given, gold.beside)


def _named_value(given: Relation, gold: Answer) -> bool:
    value = value_of(given, of_reference=False)
    return (value is not None and same(value, gold)) or _spans(given, gold)


def _value_named(given: Answer, gold: Relation) -> bool:
    value = value_of(gold)
    return (value is not None and same(given, value)) or _spans(given, gold)


def _vector(given: Answer, gold: Answer) -> bool:
    """A column or row as a tuple."""
    matrix, group = (given, gold) if isinstance(given, Matrix) else (gold, given)
    if not isinstance(matrix, Matrix) or not isinstance(group, Group) or group.shape == "list" or group.shape == "set":
        return False
    entries = [cell for row in matrix.rows for cell in row]
    if len(matrix.rows) > 1 and len(matrix.rows[0]) > 1:
        return False
    return _each(entries, group.items) if matrix is given else _each(group.items, entries)


def _one_of_group(given: Answer, gold: Answer) -> bool:
    r"""A single answer as the set of it: `\{3\}`."""
    group, other = (given, gold) if isinstance(given, Group) and given.shape != "tuple" else (gold, given)
    if not isinstance(group, Group) or len(group.items) != 1 or group.shape not in ("set", "brackets"):
        return False
    return same(group.items[0], other) if group is given else same(other, group.items[0])


def _decimal_comma(given: Group, gold: Quantity) -> bool:
    """`1000,99` against 1000.99; never as a reference, where it may be two numbers."""
    return given.decimal is not None and gold.decimals is not None and given.decimal == gold.value


def _solutions(given: Answer, gold: Answer) -> bool:
    r"""`x \in \{1,2\}` and `x = 1` or `x = 2` as 1, 2; several inequalities as intervals."""
    if isinstance(given, Relation) and _named_value(given, gold):
        return True
    return (isinstance(gold, Relation) and _value_named(given, gold)) or _spans(given, gold)


_LIKE: dict[type, Callable[[Any, Any], bool]] = {
    Quantity: same_quantity,
    Relation: _relations,
    Group: _groups,
    Span: _spans,
    Union: _spans,
    Matrix: _matrices,
    BaseNumber: lambda given, gold: given == gold,
    Ratio: _ratios,
    Choice: _choices,
    Empty: lambda given, gold: True,
    Text: _texts,
}

CONVERSIONS: dict[tuple[type, type], Callable[[Any, Any], bool]] = {
    (Relation, Quantity): _named_value,
    (Quantity, Relation): _value_named,
    (Relation, Text): _named_value,
    (Text, Relation): _value_named,
    (Relation, Ratio): _named_value,
    (Ratio, Relation): _value_named,
    (Relation, BaseNumber): _named_value,
    (BaseNumber, Relation): _value_named,
    (Relation, Matrix): _named_value,
    (Matrix, Relation): _value_named,
    (Relation, Empty): _named_value,
    (Relation, Group): _solutions,
    (Group, Relation): _solutions,
    (Relation, Span): _solutions,
    (Span, Relation): _solutions,
    (Relation, Union): _solutions,
    (Union, Relation): _solutions,
    (Group, Span): _spans,
    (Span, Group): _spans,
    (Group, Union): _spans,
    (Union, Group): _spans,
    (Span, Union): _spans,
    (Union, Span): _spans,
    (Matrix, Group): _vector,
    (Group, Matrix): _vector,
    (Quantity, Group): _one_of_group,
    (Group, Quantity): lambda given, gold: _one_of_group(given, gold) or _decimal_comma(given, gold),
    (Text, Quantity): _product,
    (Quantity, Text): _product,
    **{
        pair: _beside
        for kind in (Quantity, Group, Span, Union, Matrix, BaseNumber, Ratio, Empty, Text)
        for pair in ((Choice, kind), (kind, Choice))
    },
    (Choice, Relation): _beside,
    (Relation, Choice): lambda given, gold: _named_value(given, gold) or _beside(given, gold),
}
"""(kind of the response's answer, kind of the reference): how they may be equal all the same."""
