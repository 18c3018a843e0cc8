"""From responses to scores: the verifier's outcome, and the weighted sum of the reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Self

from transformers import PreTrainedTokenizerBase

from fipo.batch import Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.config import Reward
from fipo.rewards.functions import Response, accuracy, evaluate, find
from fipo.rewards.overlong import overlong_penalty
from fipo.rewards.pool import VerifierPool


class Scorer:
    """Grades groups of responses; holds the verifier's processes.

    Args:
        reward: the settings.
        max_response_tokens: the limit at which generation stops, for overlong shaping.
        tokenizer: turns responses into text.

    Raises:
        ConfigError: a reward function cannot be found.
    """

    def __init__(self, reward: Reward, *, max_response_tokens: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self._reward, self._max_response_tokens, self._tokenizer = reward, max_response_tokens, tokenizer
        builtin = {"accuracy": accuracy, "overlong": self._overlong}
        self._functions = [(name, find(name, builtin), weight) for name, weight in reward.functions.items()]
        self._pool = VerifierPool(reward.workers, reward.timeout_seconds)
        self._begun: dict[RolloutGroup, tuple[list[str], list[Future[Outcome]]]] = {}

    def begin(self, group: RolloutGroup) -> None:
        """Verify a group while others are still generated; `score` then waits for what is left."""
        texts = self._tokenizer.batch_decode(
            [rollout.token_ids.tolist() for rollout in group.rollouts], skip_special_tokens=True
        )
        self._begun[group] = texts, self._pool.submit([(text, group.prompt.answer) for text in texts])

    def score(self, groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        """The groups with their scores.

        Raises:
            RewardError: a reference answer does not parse, the verifier cannot be started, or a reward function failed.
        """
        for group in groups:
            if group not in self._begun:
                self.begin(group)
        return [self._graded(group, *self._begun.pop(group)) for group in groups]

    def close(self) -> None:
        """End the verifier's processes; idempotent."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _graded(self, group: RolloutGroup, texts: list[str], outcomes: list[Future[Outcome]]) -> RolloutGroup:
        graded = zip(group.rollouts, texts, outcomes, strict=True)
        return group.graded(tuple(self._score(group.prompt, *one) for one in graded))

    def _score(self, prompt: Prompt, rollout: Rollout, text: str, verdict: Future[Outcome]) -> Score:
        """A response without a verdict counts for nothing, and is masked later."""
        outcome = verdict.result()
        if outcome is Outcome.TIMEOUT:
            return Score(outcome, accuracy=0.0, reward=0.0)
        response = Response(prompt, text, len(rollout.token_ids), rollout.finish_reason, outcome)
        components = {name: evaluate(name, function, response) for name, function, _ in self._functions}
        reward = sum(weight * components[name] for name, _, weight in self._functions)
        return Score(outcome, float(outcome is Outcome.CORRECT), reward, components)

    def _overlong(self, response: Response) -> float:
        return overlong_penalty(
            response.tokens,
            max_response_tokens=self._max_response_tokens,
            buffer_tokens=self._reward.overlong_buffer_tokens,
            penalty=self._reward.overlong_penalty,
        )
