"""From responses to scores: the grader's outcome, and the weighted sum of the reward functions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Self

from transformers import PreTrainedTokenizerBase

from fipo.batch import Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.config import Reward
from fipo.outcome import Grade
from fipo.rewards.functions import Response, accuracy, evaluate, find, partial
from fipo.rewards.overlong import overlong_penalty
from fipo.rewards.pool import Item, open_pool


class Scorer:
    """Grades groups of responses; holds the graders' processes.

    Args:
        reward: the settings.
        max_response_tokens: the limit at which generation stops, for overlong shaping.
        tokenizer: turns responses into text.
        context: tokens of prompt and response that the model takes; generation stops there too.

    Raises:
        ConfigError: a reward function cannot be found.
    """

    def __init__(
        self,
        reward: Reward,
        *,
        max_response_tokens: int,
        tokenizer: PreTrainedTokenizerBase,
        context: int = sys.maxsize,
    ) -> None:
        self._reward, self._tokenizer = reward, tokenizer
        self._max_response_tokens, self._context = max_response_tokens, context
        builtin = {"accuracy": accuracy, "partial": partial, "overlong": self._overlong}
        self._functions = [(name, find(name, builtin), weight) for name, weight in reward.functions.items()]
        self._pool = open_pool(reward)
        self._begun: dict[RolloutGroup, tuple[list[str], list[Future[Grade]]]] = {}

    def begin(self, group: RolloutGroup) -> None:
        """Grade a group while others are still generated; `score` then waits for what is left."""
        texts = self._tokenizer.batch_decode(
            [rollout.last_turn.tolist() for rollout in group.rollouts], skip_special_tokens=True
        )
        prompt = group.prompt
        open_ = [text for text, rollout in zip(texts, group.rollouts, strict=True) if rollout.grade is None]
        grades = iter(self._pool.submit([Item(prompt.grader, text, prompt.answer, prompt.columns) for text in open_]))
        self._begun[group] = (
            texts,
            [next(grades) if rollout.grade is None else _given(rollout.grade) for rollout in group.rollouts],
        )

    def score(self, groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        """The groups with their scores.

        Raises:
            RewardError: a reference answer is none for its grader, a grader cannot be started or failed, or a reward
                function failed.
        """
        for group in groups:
            if group not in self._begun:
                self.begin(group)
        return [self._graded(group, *self._begun.pop(group)) for group in groups]

    def close(self) -> None:
        """End the graders' processes; idempotent."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _graded(self, group: RolloutGroup, texts: list[str], grades: list[Future[Grade]]) -> RolloutGroup:
        graded = zip(group.rollouts, texts, grades, strict=True)
        return group.graded(tuple(self._score(group.prompt, *one) for one in graded))

    def _score(self, prompt: Prompt, rollout: Rollout, text: str, verdict: Future[Grade]) -> Score:
        """A response without a verdict counts for nothing, and is masked later."""
        grade = verdict.result()
        if grade.outcome is Outcome.TIMEOUT:
            return Score(grade.outcome, accuracy=0.0, reward=0.0, explanation=grade.explanation)
        response = Response(prompt, text, len(rollout.token_ids), rollout.finish_reason, grade.outcome, grade.score)
        components = {name: evaluate(name, function, response) for name, function, _ in self._functions}
        reward = sum(weight * components[name] for name, _, weight in self._functions)
        return Score(grade.outcome, accuracy(response), reward, components, grade.explanation, grade.answer)

    def _overlong(self, response: Response) -> float:
        return overlong_penalty(
            response.tokens,
            max_response_tokens=min(self._max_response_tokens, self._context - len(response.prompt.token_ids)),
            buffer_tokens=self._reward.overlong_buffer_tokens,
            penalty=self._reward.overlong_penalty,
        )


def _given(grade: Grade) -> Future[Grade]:
    """An environment's verdict, as the graders' come."""
    future: Future[Grade] = Future()
    future.set_result(grade)
    return future
