r"""Sets of real numbers in one form: intervals and points, sorted and joined. Their ends are real constants."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from mpmath import mp

from fipo.rewards.answers.evaluate import PRECISION, Undefined, number, real
from fipo.rewards.answers.kinds import Answer, Empty, Group, Quantity, Relation, Span, Union
from fipo.rewards.answers.syntax import CONSTANTS, Apply, Symbol

Spans = tuple["_Piece", ...]
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}


@dataclass(slots=True, eq=False)
class _Piece:
    """From low to high, ends with or without; a point is closed at both."""

    low: Any
    high: Any
    closed_low: bool
    closed_high: bool

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Piece)
            and _order(self.low, other.low) == 0
            and _order(self.high, other.high) == 0
            and (self.closed_low, self.closed_high) == (other.closed_low, other.closed_high)
        )


def spans(answer: Answer) -> Spans | None:
    """The set that an interval, a union, or inequalities in one variable describe; None for what describes none."""
    try:
        pieces = _pieces(answer)
    except Undefined:
        return None
    return None if pieces is None else _joined(pieces)


def _pieces(answer: Answer) -> list[_Piece] | None:
    if isinstance(answer, Empty):
        return []
    if isinstance(answer, Span):
        return _interval(answer.low, answer.high, answer.closed_low, answer.closed_high)
    if isinstance(answer, Union):
        return _union(answer)
    if isinstance(answer, Relation):
        return _relation(answer)
    if isinstance(answer, Group):
        return _group(answer)
    return None


def _interval(low: Answer, high: Answer, closed_low: bool, closed_high: bool) -> list[_Piece] | None:
    if not isinstance(low, Quantity) or not isinstance(high, Quantity) or low.unit != high.unit:
        return None
    bottom, top = _end(low), _end(high)
    order = _order(bottom, top)
    if order > 0 or (order == 0 and not (closed_low and closed_high)):
        return None
    return [_Piece(bottom, top, closed_low and mp.isfinite(number(bottom)), closed_high and mp.isfinite(number(top)))]


def _union(union: Union) -> list[_Piece] | None:
    pieces: list[_Piece] = []
    for part in union.parts:
        found = _points(part) if isinstance(part, Group) and part.shape == "set" else _pieces(part)
        if found is None:
            return None
        pieces += found
    for part in union.removed:
        holes = _points(part) if isinstance(part, Group) and part.shape == "set" else None
        if holes is None:
            return None
        for hole in holes:
            pieces = [rest for piece in pieces for rest in _without(piece, hole.low)]
    return pieces


def _points(group: Group) -> list[_Piece] | None:
    ends = [_end(item) if isinstance(item, Quantity) else None for item in group.items]
    return None if any(end is None for end in ends) else [_Piece(end, end, True, True) for end in ends]


def _without(piece: _Piece, point: Any) -> list[_Piece]:
    below, above = _order(piece.low, point), _order(point, piece.high)
    if below > 0 or above > 0:
        return [piece]
    left = [_Piece(piece.low, point, piece.closed_low, False)] if below < 0 else []
    return left + ([_Piece(point, piece.high, False, piece.closed_high)] if above < 0 else [])


def _relation(relation: Relation) -> list[_Piece] | None:
    r"""`x > 3`, `1 \le x < 2`, `x \ne 0`, `x \in (1,2)`."""
    sides, operators = relation.sides, relation.operators
    if operators == (r"\in",) and _is_variable(sides[0]):
        return _pieces(sides[1])
    if operators == ("=",) and _is_variable(sides[0]) and isinstance(sides[1], Quantity):
        point = _end(sides[1])
        return [_Piece(point, point, True, True)]
    if not set(operators) <= _FLIPPED.keys():
        return None
    where = [index for index, side in enumerate(sides) if _is_variable(side)]
    if len(where) != 1 or len(sides) > 3 or (len(sides) == 3 and where != [1]):
        return None
    pieces = [_Piece(-mp.inf, mp.inf, False, False)]
    for index, operator in enumerate(operators):
        if index == where[0]:
            bound, operator = sides[index + 1], operator
        else:
            bound, operator = sides[index], _FLIPPED[operator]
        if not isinstance(bound, Quantity):
            return None
        pieces = [rest for piece in pieces for rest in _bounded(piece, operator, _end(bound))]
    return pieces


def _bounded(piece: _Piece, operator: str, bound: Any) -> list[_Piece]:
    if operator == r"\ne":
        return _without(piece, bound)
    closed = operator in (r"\le", r"\ge") and bool(mp.isfinite(number(bound)))
    below = operator in ("<", r"\le")
    return _meet([piece], [_Piece(-mp.inf, bound, False, closed) if below else _Piece(bound, mp.inf, closed, False)])


def _meet(one: list[_Piece], two: list[_Piece]) -> list[_Piece]:
    result = []
    for a in one:
        for b in two:
            low, closed_low = _later(a.low, a.closed_low, b.low, b.closed_low, 1)
            high, closed_high = _later(a.high, a.closed_high, b.high, b.closed_high, -1)
            order = _order(low, high)
            if order < 0 or (order == 0 and closed_low and closed_high):
                result.append(_Piece(low, high, closed_low, closed_high))
    return result


def _later(one: Any, closed: bool, two: Any, other: bool, sign: int) -> tuple[Any, bool]:
    order = _order(one, two) * sign
    if order == 0:
        return one, closed and other
    return (one, closed) if order > 0 else (two, other)


def _group(group: Group) -> list[_Piece] | None:
    """`(1, 2)` and `[1, 2]` as intervals; inequalities of a list joined by `or`, or all to hold."""
    if group.shape in ("tuple", "brackets") and len(group.items) == 2:
        closed = group.shape == "brackets"
        return _interval(group.items[0], group.items[1], closed, closed)
    if group.shape != "list" or not all(isinstance(item, Relation | Span | Union) for item in group.items):
        return None
    variables = {item.sides[index] for item in group.items if isinstance(item, Relation) for index in _where(item)}
    found = [_pieces(item) for item in group.items]
    if len(variables) > 1 or any(one is None for one in found):
        return None
    parts = [one for one in found if one is not None]
    if group.joined == "and":
        result = parts[0]
        for part in parts[1:]:
            result = _meet(result, part)
        return result
    if group.joined == "or" or all(isinstance(item, Span | Union) for item in group.items):
        return [piece for part in parts for piece in part]
    met = parts[0]
    for part in parts[1:]:
        met = _meet(met, part)
    # `x<1, x>2` can only mean either; `x>1, x<2` could mean both ways and is read as both holding.
    return met or [piece for part in parts for piece in part]


def _where(relation: Relation) -> list[int]:
    return [index for index, side in enumerate(relation.sides) if _is_variable(side)]


def _is_variable(side: Answer) -> bool:
    """A variable, or a function of one: `0 < f(x) < 1` says what `(0,1)` says."""
    if not isinstance(side, Quantity) or side.unit:
        return False
    if isinstance(side.node, Apply):
        return side.node.operation.startswith("call:")
    return isinstance(side.node, Symbol) and side.node.name not in CONSTANTS


def _end(side: Quantity) -> Any:
    return side.value if side.value is not None else real(side.node)


def _joined(pieces: list[_Piece]) -> Spans:
    """Sorted, and those that touch made one."""
    ordered = sorted(pieces, key=cmp_to_key(_by_low))
    result: list[_Piece] = []
    for piece in ordered:
        if result:
            last = result[-1]
            order = _order(piece.low, last.high)
            if order < 0 or (order == 0 and (piece.closed_low or last.closed_high)):
                high, closed = last.high, last.closed_high
                beyond = _order(piece.high, high)
                if beyond > 0:
                    high, closed = piece.high, piece.closed_high
                elif beyond == 0:
                    closed = closed or piece.closed_high
                result[-1] = _Piece(last.low, high, last.closed_low, closed)
                continue
        result.append(piece)
    return tuple(result)


def _by_low(one: _Piece, two: _Piece) -> int:
    return _order(one.low, two.low) or int(two.closed_low) - int(one.closed_low)


def _order(one: Any, two: Any) -> int:
    if isinstance(one, Fraction) and isinstance(two, Fraction):
        return (one > two) - (one < two)
    with mp.workprec(PRECISION):
        one, two = number(one), number(two)
        if one == two:
            return 0
        if (
            mp.isfinite(one)
            and mp.isfinite(two)
            and abs(one - two) <= mp.ldexp(max(abs(one), abs(two), 1), -PRECISION // 2)
        ):
            return 0
        return 1 if one > two else -1
