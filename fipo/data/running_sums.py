"""Problems that reward working step by step: add digits modulo m, with demonstrations of differing depth.

    prompt    Add modulo 5 : 3 1 4 0 2 2 1 3
    worked    3 4 3 3 0 2 3 1 \\boxed{ 1 }        every running sum, then the answer
    partly    3 4 3 3 \\boxed{ 1 }                the first half
    neither   \\boxed{ 1 }
    asked     ```python print(sum(map(int,' 3 1 4 0 2 2 1 3 '.split()))%5) ```
    told      \\boxed{ 1 }      with all before it in the prompt: the problem, what was asked, its end, and the output

A small model adds two digits reliably and eight at once hardly ever, so the longer response is the better one; and so
is the one that asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

from fipo.config import RunningSums
from fipo.errors import DataError

END_OF_TURN = "<end>"
"""The end of a response, as the word-level tokenizers of `fipo.models` write it."""


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
    bounds = accumulate((settings.worked, settings.partly, settings.asked, settings.told))
    kind = next((kind for kind, bound in zip(("worked", "partly", "asked", "told"), bounds) if draw < bound), "")
    prompt, answer = f"Add modulo {settings.modulus} : {_words(digits)}", str(sums[-1])
    shown = {"worked": len(sums), "partly": len(sums) // 2}.get(kind, 0)
    response = " ".join([*map(str, sums[:shown]), r"\boxed{", answer, "}"])
    call = f"```python print(sum(map(int,' {_words(digits)} '.split()))%{settings.modulus}) ```"
    if kind == "asked":
        response = call
    if kind == "told":
        prompt = f"{prompt} {call} {END_OF_TURN} ```output {answer} ```"
    return {"prompt": prompt, "answer": answer, "response": response}


def _words(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))
