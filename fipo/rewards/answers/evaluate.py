r"""The value of an expression: exact where it is rational, else to as many digits as tell its terms apart.

Two expressions are equal when they agree at points that are fixed, rational and of no special form; a difference as
small as the square of any literal or intermediate value that occurs in either is seen: `\pi+10^{-200}` is not `\pi`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from mpmath import mp

from fipo.rewards.answers.syntax import Apply, Node, Number, Symbol, constants, names, operations

PRECISION = 160
"""Bits to begin with."""
MAX_MAGNITUDE = 4000
"""Values beyond 2 to this power, up or down, are told apart only where they are exact."""
MAX_BITS = 400_000
"""Larger exact numbers are not computed: a tower of exponents or a factorial is the same only as it is written."""
TERMS = 6
"""A sum is known by so many of its terms."""
_INTEGER_POINTS = (3, 5, 4, 7, 6, 8, 9, 2)
_EXACT_EXPONENT = 64


class Undefined(Exception):
    """No value here: a division by zero, a real root of a negative number, digits beyond all reason."""


class _Evaluation:
    """One evaluation at one point."""

    def __init__(self, point: dict[str, Any], *, real: bool) -> None:
        self.point, self.real, self.magnitude = point, real, 0
        self.constant = len(point) <= 1

    def value(self, node: Node) -> Any:
        """A `Fraction`, or mpmath's number."""
        if isinstance(node, Number):
            result: Any = node.value
            self.magnitude = max(self.magnitude, result.numerator.bit_length(), result.denominator.bit_length())
        elif isinstance(node, Symbol):
            result = self._symbol(node.name)
        else:
            result = self._apply(node)
        self._note(result)
        return result

    def _symbol(self, name: str) -> Any:
        if name == "pi":
            return +mp.pi
        if name == "e":
            return +mp.e
        if name == "infty":
            return mp.inf
        if name == "i":
            return mp.mpc(0, 1)
        return self.point[name]

    def _apply(self, node: Apply) -> Any:
        operation = node.operation
        if operation.startswith(("sum ", "prod ")):
            return self._running(operation, *node.arguments)
        values = [self.value(argument) for argument in node.arguments]
        try:
            if operation in _EXACT and all(isinstance(value, Fraction) for value in values):
                exactly = _EXACT[operation](*values)
                if exactly is not None:
                    return exactly
            if operation == "^":
                return self._power(*values)
            if operation.startswith("call:"):
                return _generic(operation, values)
            if operation == "log":
                return mp.log(number(values[0])) * number(self.point["log"])
            result = _FUNCTIONS[operation](*map(number, values))
            if not mp.isfinite(result) and all(mp.isfinite(number(value)) for value in values):
                raise Undefined(operation)  # a pole: the logarithm of 0 is no number
            return _without_noise(result, values) if operation in _CANCELLING else result
        except (ZeroDivisionError, ValueError, OverflowError, TypeError, KeyError) as error:
            raise Undefined(operation) from error

    def _running(self, operation: str, low: Node, high: Node, body: Node) -> Any:
        """A value of no meaning that sums (or products) of the same terms share: whoever has not added them up has not
        answered, so it is no number's."""
        first, last = self.value(low), self.value(high)
        length = number(last) - number(first)
        if not mp.isfinite(length):
            length = mp.mpf(7919)
        kind, _, depth = operation.partition(" ")
        added, multiplied = mp.mpf(0), mp.mpf(1)
        for place in range(TERMS):
            self.point[f"#{depth}"] = first + place
            term = number(self.value(body))
            added += _generic(kind, [length, Fraction(place)]) * term
            multiplied *= mp.power(term, place + 2)
        return added if kind == "sum" else multiplied * _generic(kind, [length])

    def _power(self, base: Any, exponent: Any) -> Any:
        whole = isinstance(exponent, Fraction) and exponent.denominator == 1
        if whole and isinstance(base, Fraction) and (self.constant or abs(exponent) <= _EXACT_EXPONENT):
            _refuse_beyond(max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent))
            return base**exponent.numerator if exponent >= 0 else 1 / base**-exponent.numerator
        if whole:
            return mp.power(number(base), exponent.numerator)
        return mp.power(number(base), number(exponent))

    def _note(self, value: Any) -> None:
        """The largest size, up or down, of what has been seen."""
        if isinstance(value, Fraction):
            if value:
                size = abs(value.numerator.bit_length() - value.denominator.bit_length())
                self.magnitude = max(self.magnitude, size)
            return
        if isinstance(value, mp.mpc):
            if self.real:
                raise Undefined("not real")
            parts = tuple(_without_noise(part, [value.real, value.imag]) for part in (value.real, value.imag))
        else:
            parts = (value,)
        for part in parts:
            if mp.isnan(part):
                raise Undefined("not a number")
            if part and mp.isfinite(part):
                self.magnitude = max(self.magnitude, abs(int(mp.mag(part))))


def number(value: Any) -> Any:
    """mpmath's number of a `Fraction`."""
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def exact(node: Node) -> Fraction | None:
    """The value of a rational constant; None of anything else."""
    if names(node) or constants(node) or not operations(node) <= _RATIONAL:
        return None
    try:
        value = _Evaluation({}, real=True).value(node)
    except Undefined:
        return None
    return value if isinstance(value, Fraction) else None


def equal(one: Node, two: Node) -> bool:
    """Whether the two are the same number, or the same function of the same variables."""
    return one == two or _agree(one, two, lambda pairs: all(_close(*pair) for pair in pairs))


def proportional(one: Node, two: Node, *, positive: bool = False) -> bool:
    """Whether one is a constant, non-zero (or positive) multiple of the other, and neither is constant."""
    variables = names(one)
    if not variables or variables != names(two):
        return False

    def constant_ratio(pairs: list[tuple[Any, Any, int]]) -> bool:
        pairs = [pair for pair in pairs if pair[0] or pair[1]]
        if len(pairs) < 3 or not all(pair[0] and pair[1] for pair in pairs):
            return False
        first, second, _ = pairs[0]
        if positive and number(first) / number(second) < 0:
            return False
        return all(_cross(a, second, b, first, size) for a, b, size in pairs[1:])

    return _agree(one, two, constant_ratio, at_least=3)


def real(node: Node) -> Any:
    """The value of a real constant, infinities included.

    Raises:
        Undefined: it has variables, or no real value.
    """
    if names(node):
        raise Undefined("variables")
    with mp.workprec(PRECISION):
        return _Evaluation({"log": Fraction(1)}, real=True).value(node)


def _agree(one: Node, two: Node, judge: Callable[[list[tuple[Any, Any, int]]], bool], *, at_least: int = 2) -> bool:
    """Whether `judge` says so of the values (and the size of what occurred) at every point where both have one."""
    variables = sorted(names(one) | names(two))
    both_log = "log" in operations(one) and "log" in operations(two)
    used = operations(one) | operations(two)
    whole, stretch = bool(_OF_INTEGERS & used), 37 if _STEPS & used else 1
    imaginary = "i" in constants(one) | constants(two)
    for is_real in (True, False):
        if is_real and imaginary:
            continue
        pairs = []
        for point in _points(variables, both_log, signed=is_real, whole=whole):
            point |= {name: point[name] * stretch for name in variables}
            try:
                pairs.append(_values(one, two, point, real=is_real))
            except Undefined:
                continue
        if len(pairs) >= (at_least if variables else 1):
            return judge(pairs)
    return False


def _points(variables: list[str], both_log: bool, *, signed: bool, whole: bool) -> Iterator[dict[str, Any]]:
    """Positive, signed and integer points, or integer ones alone; one empty point for constants. A bare log has one
    base, whichever."""
    base = Fraction(7919, 5003) if both_log else Fraction(1)
    if not variables:
        yield {"log": base}
        return
    for round_ in range(0 if whole else 6 if signed else 3):
        yield {"log": base} | {
            name: Fraction(1009 + 4799 * (place + 1) * (round_ + 2) % 9973, 3571 + 14 * place)
            * (-1 if signed and round_ >= 3 and (place + round_) % 2 else 1)
            for place, name in enumerate(variables)
        }
    for shift in range(8 if whole else 2):
        yield {"log": base} | {
            name: Fraction(_INTEGER_POINTS[(place * 3 + shift) % 8] + 8 * (place // 8))
            for place, name in enumerate(variables)
        }


def _values(one: Node, two: Node, point: dict[str, Any], *, real: bool) -> tuple[Any, Any, int]:
    precision = PRECISION
    while True:
        with mp.workprec(precision):
            evaluation = _Evaluation(point, real=real)
            pair = evaluation.value(one), evaluation.value(two)
        size = evaluation.magnitude
        if all(isinstance(value, Fraction) for value in pair) or precision >= PRECISION + 4 * size:
            return *pair, size
        if size > MAX_MAGNITUDE:
            raise Undefined("too large, or too small, to tell")
        precision = PRECISION + 4 * size


def _cross(a: Any, b: Any, c: Any, d: Any, size: int) -> bool:
    """Whether `a * b` is `c * d`, all digits kept."""
    with mp.workprec(PRECISION + 8 * size):
        return _close(number(a) * number(b), number(c) * number(d), 2 * size)


def _close(one: Any, two: Any, size: int) -> bool:
    if isinstance(one, Fraction) and isinstance(two, Fraction):
        return one == two
    with mp.workprec(PRECISION + 4 * size):
        one, two = number(one), number(two)
        if not (mp.isfinite(one) and mp.isfinite(two)):
            return bool(one == two)
        return bool(abs(one - two) <= mp.ldexp(1, -(PRECISION // 2 + 2 * size)))


def _generic(operation: str, values: list[Any]) -> Any:
    """A value for an unknown function: of no form that an identity could exploit."""
    seed = sum(ord(one) * (index + 3) for index, one in enumerate(operation))
    total = mp.mpf(seed) / 97
    for place, value in enumerate(values):
        total += number(value) * (seed + 31 * place) / 113
    return mp.cos(total) + mp.exp(-(total**2) / 1000) * 3


def _without_noise(result: Any, values: list[Any]) -> Any:
    """0 for what is left where everything cancels, as in `\\cos(\\pi/2)`."""
    if not result or not mp.isfinite(result):
        return result
    scale = max([0, *(int(mp.mag(number(value))) for value in values if value and mp.isfinite(number(value)))])
    return mp.mpf(0) if mp.mag(result) < scale - mp.prec + 32 else result


def _root(value: Any, degree: Any) -> Any:
    """The real root where there is one: the cube root of -8 is -2."""
    if not isinstance(value, mp.mpc) and value < 0 and degree == int(degree) and int(degree) % 2:
        return -mp.root(-value, int(degree))
    return mp.power(value, 1 / degree)


def _refuse_beyond(bits: Fraction | int) -> None:
    if bits > MAX_BITS:
        raise Undefined("too large to compute")


def _factorial(of: int) -> int:
    _refuse_beyond(of * of.bit_length())
    return math.factorial(of)


def _double_factorial(of: int) -> int:
    _refuse_beyond(of * of.bit_length())
    return math.prod(range(of, 0, -2))


def _binomial(of: int, chosen: int) -> int:
    _refuse_beyond(min(chosen, max(of - chosen, 0)) * of.bit_length())
    return math.comb(of, chosen)


def _degrees(value: Any) -> Any:
    return value * mp.pi / 180


def _integers(function: Callable[..., int]) -> Callable[..., Fraction | None]:
    """A function of natural numbers, exactly; None of others."""

    def of(*values: Fraction) -> Fraction | None:
        if any(value.denominator != 1 or value < 0 for value in values):
            return None
        return Fraction(function(*(value.numerator for value in values)))

    return of


_EXACT: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "percent": lambda a: a / 100,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
    "factorial": _integers(_factorial),
    "double factorial": _integers(_double_factorial),
    "binom": _integers(_binomial),
    "gcd": _integers(math.gcd),
    "lcm": _integers(math.lcm),
    "max": max,
    "min": min,
}
_OF_INTEGERS = frozenset(["factorial", "double factorial", "binom", "gcd", "lcm"])
_STEPS = frozenset(["floor", "ceil"])
"""Functions that small points do not tell from constants."""
_CANCELLING = frozenset(["+", "-", "sin", "cos", "tan", "cot", "ln", "log_base", "arccos", "sinh"])
_RATIONAL = frozenset(_EXACT) | {"^"}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _EXACT[name] for name in ("+", "-", "*", "/", "neg", "abs", "percent", "max", "min")},
    "floor": lambda a: mp.floor(a),
    "ceil": lambda a: mp.ceil(a),
    "degree": _degrees,
    "sqrt": lambda a: mp.sqrt(a),
    "root": _root,
    "exp": lambda a: mp.exp(a),
    "ln": lambda a: mp.log(a),
    "lg": lambda a: mp.log(a) / mp.log(10),
    "log_base": lambda a, b: mp.log(a) / mp.log(b),
    **{
        name: (lambda a, function=function: getattr(mp, function)(a))
        for name, function in {
            **{one: one for one in ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh"]},
            **{f"arc{one}": f"a{one}" for one in ["sin", "cos", "tan", "cot"]},
            **{f"ar{one}": f"a{one}" for one in ["sinh", "cosh", "tanh"]},
        }.items()
    },
}
