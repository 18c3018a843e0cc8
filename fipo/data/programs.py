"""Little functions to write in Python, judged by tests: operations one after the other, which need parentheses.

    prompt     f of x : plus 3 times 2 minus 4 times 5
    careful    f=lambda x: ( ( ( x + 3 )* 2 )- 4 )* 5
    careless   f=lambda x: x + 3 * 2 - 4 * 5
    tests      assert f(6) == 70, and another

The last operation multiplies, and in Python multiplication binds first: without its parentheses a function is wrong,
unless all operations multiply. Only running it shows that.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from fipo.config import Programs
from fipo.errors import DataError

WORDS = {"+": "plus", "-": "minus", "*": "times"}
OPERANDS = range(2, 10)
TESTED = range(10)
"""Arguments of the tests."""
TESTS = 2
"""Of a function that is linear, two say all."""


def generate(settings: Programs, count: int) -> Iterator[dict[str, str]]:
    """Yield `count` rows `{prompt, answer, response}` with distinct prompts, determined by `settings`.

    Raises:
        DataError: there are fewer than `count` distinct problems.
    """
    available = len(WORDS) ** (settings.operations - 1) * len(OPERANDS) ** settings.operations
    if count > available:
        raise DataError(
            f"limit: {settings.operations} operations make {available} different functions; {count} were asked for "
            "(more operations make more functions)"
        )
    rng = Random(settings.seed)
    seen: set[tuple[tuple[str, int], ...]] = set()
    while len(seen) < count:
        symbols = [*rng.choices(list(WORDS), k=settings.operations - 1), "*"]
        operations = tuple((symbol, rng.choice(OPERANDS)) for symbol in symbols)
        arguments, careful = rng.sample(TESTED, TESTS), rng.random() < settings.careful
        if operations not in seen:
            seen.add(operations)
            yield {
                "prompt": " ".join(["f of x :", *(f"{WORDS[symbol]} {operand}" for symbol, operand in operations)]),
                "answer": "\n".join(f"assert f({x}) == {_value(operations, x)}" for x in arguments),
                "response": _careful(operations) if careful else _careless(operations),
            }


def _value(operations: tuple[tuple[str, int], ...], x: int) -> int:
    for symbol, operand in operations:
        x = x + operand if symbol == "+" else x - operand if symbol == "-" else x * operand
    return x


def _careful(operations: tuple[tuple[str, int], ...]) -> str:
    opened = ["("] * (len(operations) - 1)
    (symbol, operand), *later = operations
    return " ".join(["f=lambda x:", *opened, f"x {symbol} {operand}", *(f"){sign} {value}" for sign, value in later)])


def _careless(operations: tuple[tuple[str, int], ...]) -> str:
    return " ".join(["f=lambda x: x", *(f"{symbol} {operand}" for symbol, operand in operations)])
