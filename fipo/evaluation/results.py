"""What an evaluation found: graded responses, problems, and the scores of a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fipo.errors import DataError
from fipo.evaluation.estimators import avg_at_k, bootstrap, cons_at_k, pass_at_k
from fipo.outcome import Outcome
from fipo.records import LengthQuantiles, Scores

METRICS = ("avg_at_k", "cons_at_k", "pass_at_k")


@dataclass(frozen=True, slots=True)
class GradedResponse:
    """One response to a problem and its verdict."""

    text: str
    answer: str | None
    """The extracted answer; None: there is none."""
    outcome: Outcome
    tokens: int
    """Length, the stop token included."""
    truncated: bool
    """It reached the length limit."""
    vote: str | None
    """The answer that it votes for in cons@k: how the first response of the problem wrote what means the same."""
    explanation: str = ""
    """What the grader says of its verdict."""

    @property
    def correct(self) -> bool:
        """Whether the grader called it correct; a response that was not judged in time counts as not correct."""
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """One problem of a benchmark and all its responses."""

    id: str
    problem: str
    answer: str
    """The reference answer."""
    responses: tuple[GradedResponse, ...]

    @property
    def correct(self) -> int:
        """Correct responses."""
        return sum(response.correct for response in self.responses)

    @property
    def truncated(self) -> int:
        """Responses that reached the length limit."""
        return sum(response.truncated for response in self.responses)

    @property
    def response_tokens(self) -> NDArray[np.int32]:
        """[responses] lengths in tokens."""
        return np.array([response.tokens for response in self.responses], dtype=np.int32)

    @property
    def avg_at_k(self) -> float:
        """Share of correct responses."""
        return avg_at_k([response.correct for response in self.responses])

    @property
    def cons_at_k(self) -> float:
        """Probability that the majority answer is correct."""
        return cons_at_k(
            [response.vote for response in self.responses], [response.correct for response in self.responses]
        )

    @property
    def pass_at_k(self) -> float:
        """1.0 if any response is correct."""
        return pass_at_k(len(self.responses), self.correct, len(self.responses))

    @property
    def majority(self) -> tuple[str | None, float]:
        """The answer with the most votes, the first seen of a tie, and its share of all responses."""
        votes = Counter(response.vote for response in self.responses if response.vote is not None)
        answer, count = next(iter(votes.most_common(1)), (None, 0))
        return answer, count / len(self.responses)


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """All that one model answered to one benchmark."""

    benchmark: str
    problems: tuple[ProblemResult, ...]
    """In the benchmark's order, each with the same number of responses."""

    @property
    def k(self) -> int:
        """Responses to each problem."""
        return len(self.problems[0].responses)

    @property
    def response_tokens(self) -> NDArray[np.int32]:
        """[problems * k] lengths in tokens."""
        return np.concatenate([problem.response_tokens for problem in self.problems])

    def by_problem(self, metric: str) -> NDArray[np.float64]:
        """[problems] `avg_at_k`, `cons_at_k` or `pass_at_k` of each problem."""
        return np.array([getattr(problem, metric) for problem in self.problems])

    def scores(self, *, seed: int = 0) -> Scores:
        """The scores with their intervals; `seed` determines the bootstrap."""
        tokens = self.response_tokens
        outcomes = Counter(response.outcome for problem in self.problems for response in problem.responses)
        return Scores(
            benchmark=self.benchmark,
            k=self.k,
            problems=len(self.problems),
            **{metric: bootstrap(self.by_problem(metric), seed=seed) for metric in METRICS},
            mean_response_tokens=float(tokens.mean()),
            response_tokens=LengthQuantiles(*map(float, np.quantile(tokens, [0, 0.25, 0.5, 0.75, 1]))),
            truncation_rate=sum(problem.truncated for problem in self.problems) / tokens.size,
            outcomes={outcome.value: outcomes[outcome] / tokens.size for outcome in Outcome},
        )

    @classmethod
    def merge(cls, shards: Iterable[Self], order: Iterable[str]) -> Self:
        """One result from the shards of several ranks, in the order of the problem ids.

        Raises:
            DataError: a problem of `order` is in no shard.
        """
        shards = list(shards)
        found = {problem.id: problem for shard in shards for problem in shard.problems}
        order = list(order)
        if missing := [problem_id for problem_id in order if problem_id not in found]:
            raise DataError(
                f"benchmark {shards[0].benchmark}: {len(missing)} of {len(order)} problems were not evaluated, "
                f"the first is {missing[0]}"
            )
        return cls(shards[0].benchmark, tuple(found[problem_id] for problem_id in order))
