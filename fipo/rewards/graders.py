"""How a benchmark grades: `math` compares answers as mathematics, `exact` as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.math import extract_answer, final_answer
from fipo.rewards.pool import VerifierPool

_RATIONAL = re.compile(r"-?\d+(?:/\d+)?")


class MathGrader:
    """math-verify, in processes that can be killed."""

    def __init__(self, pool: VerifierPool) -> None:
        self._pool = pool

    def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """The outcome of each (response, reference answer), in order."""
        return self._pool.verify(pairs)

    def extract(self, response: str) -> str | None:
        """The final answer, its spelling normalised."""
        return extract_answer(response)

    def equivalent(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether two responses give the same final answer; not, where math-verify finds no answer or no end."""
        asked = [pair for pair in pairs if not self._two_numbers(pair)]
        futures = self._pool.submit([(response, final_answer(other) or "") for response, other in asked])
        verdicts = {}
        for pair, future in zip(asked, futures, strict=True):
            try:
                verdicts[pair] = future.result() is Outcome.CORRECT
            except RewardError:  # the other answer parses to nothing
                verdicts[pair] = False
        return [verdicts.get(pair, False) for pair in pairs]

    def _two_numbers(self, pair: tuple[str, str]) -> bool:
        """Reduced rationals are equal only as texts."""
        return all(_RATIONAL.fullmatch(extract_answer(response) or "") for response in pair)


class ExactGrader:
    """The final answer must be the reference, spelling normalised: for answers that are no mathematics."""

    def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """The outcome of each (response, reference answer), in order."""
        return [self._verify(response, answer) for response, answer in pairs]

    def extract(self, response: str) -> str | None:
        """The final answer, its spelling normalised."""
        return extract_answer(response)

    def equivalent(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Equal texts have been one vote before."""
        return [False] * len(pairs)

    def _verify(self, response: str, answer: str) -> Outcome:
        given = extract_answer(response)
        if given is None:
            return Outcome.UNPARSED
        return Outcome.CORRECT if given == extract_answer(rf"\boxed{{{answer}}}") else Outcome.WRONG
