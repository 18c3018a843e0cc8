"""Guess and verify: a task on which a longer response is better because it tries on.

    prompt     s6 v9 :
    response   4 u11 v2 13 u0 v7 8 u3 v9 \\boxed{ 8 }

A problem names a seed s and a value v; asked for is the candidate x with p(h(s, x)) = v. A trial writes a candidate,
u = h(s, x) and p(u): once v stands there, the candidate is right. h and p are fixed tables that the model learns from
the demonstrations; which candidate leads to v it can only find out by trying. Demonstrations give up after a wrong
candidate with a probability of `give_up`, and box it all the same: RL discovers that trying on pays. They remember
nothing: a trial draws from all candidates, so who never gives up writes as many on average as there are, and responses
have room to grow.

What takes a small model long to learn is that a trial has found v. It learns it sooner where the decision follows on v
at once, and where what is boxed does not depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from fipo.config import Search
from fipo.errors import DataError
from fipo.rewards.functions import Response

MOST_TRIALS = 64
"""The last of so many finds the value, so that a demonstration fits into the response limit of `demo-search`."""


def generate(settings: Search, count: int) -> Iterator[dict[str, str]]:
    """Yield `count` rows `{prompt, answer, response}`, determined by `settings`: each problem once, then all again.

    Raises:
        DataError: `part` leaves no problem.
    """
    tables, rng = _Tables(settings), Random(settings.seed)
    problems = [(seed, value) for seed in range(settings.seeds) for value in range(settings.candidates)]
    Random(settings.tables).shuffle(problems)
    held_out = round(settings.held_out * len(problems))
    problems = problems[:held_out] if settings.part == "held_out" else problems[held_out:]
    if not problems:
        raise DataError(f"search.held_out: {settings.held_out} leaves no problem for part = {settings.part}")
    for index in range(count):
        seed, value = problems[index % len(problems)]
        yield {
            "prompt": f"s{seed} v{value} :",
            "answer": str(tables.answer(seed, value)),
            "response": _demonstration(tables, seed, value, settings.give_up, rng),
        }


class _Tables:
    """h and p, permutations of the candidates: each value has one candidate of each seed."""

    def __init__(self, settings: Search) -> None:
        rng, candidates = Random(settings.tables), range(settings.candidates)
        self._h = [rng.sample(candidates, len(candidates)) for _ in range(settings.seeds)]
        self._p = rng.sample(candidates, len(candidates))

    def trial(self, seed: int, candidate: int) -> tuple[int, int]:
        """u and the value that it leads to."""
        u = self._h[seed][candidate]
        return u, self._p[u]

    def answer(self, seed: int, value: int) -> int:
        """The candidate that leads to the value."""
        return self._h[seed].index(self._p.index(value))


def _demonstration(tables: _Tables, seed: int, value: int, give_up: float, rng: Random) -> str:
    words: list[str] = []
    for trial in range(1, MOST_TRIALS + 1):
        candidate = rng.randrange(len(tables._p)) if trial < MOST_TRIALS else tables.answer(seed, value)
        u, found = tables.trial(seed, candidate)
        words.append(f"{candidate} u{u} v{found}")
        if found == value or rng.random() < give_up:
            break
    return " ".join([*words, rf"\boxed{{ {candidate} }}"])


def trials(response: Response) -> float:
    """How many trials a response holds: a reward function, with a weight of 0 to be seen and not to be learned."""
    return float(len(re.findall(r"\bu\d+ v\d+", response.text)))
