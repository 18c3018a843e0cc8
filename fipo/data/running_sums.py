"""Problems that reward working step by step: add digits modulo m, with demonstrations of differing depth.

    prompt    Add modulo 5 : 3 1 4 0 2 2 1 3
    worked    3 4 3 3 0 2 3 1 \\boxed{ 1 }        every running sum, then the answer
    partly    3 4 3 3 \\boxed{ 1 }                the first half
    neither   \\boxed{ 1 }

A small model adds two digits reliably and eight at once hardly ever, so the longer response is the better one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

from fipo.config import RunningSums
from fipo.errors import DataError


def generate(settings: RunningSums, count: int) -> Iterator[dict[str, str]]:
    """Yield `count` rows `{prompt, answer, response}` with distinct prompts, determined by `settings`.

    Raises:
        DataError: there are fewer than `count` distinct problems.
    """
    available = settings.modulus**settings.digits
    if count > available:
        raise DataError(
            f"limit: {settings.digits} digits below {settings.modulus} make {available} different problems; "
            f"{count} were asked for (more digits make more problems)"
        )
    rng = Random(settings.seed)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < count:
        digits = tuple(rng.choices(range(settings.modulus), k=settings.digits))
        if digits not in seen:
            seen.add(digits)
            yield _row(digits, settings, rng.random())


def _row(digits: tuple[int, ...], settings: RunningSums, draw: float) -> dict[str, str]:
    sums = [total % settings.modulus for total in accumulate(digits)]
    if draw < settings.worked:
        shown = len(sums)
    elif draw < settings.worked + settings.partly:
        shown = len(sums) // 2
    else:
        shown = 0
    answer = str(sums[-1])
    return {
        "prompt": f"Add modulo {settings.modulus} : {_words(digits)}",
        "answer": answer,
        "response": " ".join([*map(str, sums[:shown]), r"\boxed{", answer, "}"]),
    }


def _words(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))
