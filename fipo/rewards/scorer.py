"""From responses to scores: the verifier's outcome and the shaped reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from transformers import PreTrainedTokenizerBase

from fipo.batch import Outcome, Rollout, RolloutGroup, Score
from fipo.config import Reward
from fipo.rewards.overlong import overlong_penalty
from fipo.rewards.pool import VerifierPool


class Scorer:
    """Grades groups of responses; holds the verifier's processes.

    Args:
        reward: the settings.
        max_response_tokens: the limit at which generation stops, for overlong shaping.
        tokenizer: turns responses into text.
    """

    def __init__(self, reward: Reward, *, max_response_tokens: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self._reward, self._max_response_tokens, self._tokenizer = reward, max_response_tokens, tokenizer
        self._pool = VerifierPool(reward.workers, reward.timeout_seconds)

    def score(self, groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        """The groups with their scores.

        Raises:
            RewardError: a reference answer does not parse, or the verifier cannot be started.
        """
        outcomes = iter(self.outcomes(groups))
        return [
            group.graded(tuple(self._score(rollout, next(outcomes)) for rollout in group.rollouts)) for group in groups
        ]

    def outcomes(self, groups: Sequence[RolloutGroup]) -> list[Outcome]:
        """The verifier's outcome of each response of each group, in one list."""
        token_ids = [rollout.token_ids.tolist() for group in groups for rollout in group.rollouts]
        texts = self._tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        answers = [group.prompt.answer for group in groups for _ in group.rollouts]
        return self._pool.verify(list(zip(texts, answers, strict=True)))

    def close(self) -> None:
        """End the verifier's processes; idempotent."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _score(self, rollout: Rollout, outcome: Outcome) -> Score:
        """Accuracy plus overlong shaping; a response without a verdict counts for nothing, and is masked later."""
        if outcome is Outcome.TIMEOUT:
            return Score(outcome, accuracy=0.0, reward=0.0)
        accuracy = float(outcome is Outcome.CORRECT)
        shaping = overlong_penalty(
            len(rollout.token_ids),
            max_response_tokens=self._max_response_tokens,
            buffer_tokens=self._reward.overlong_buffer_tokens,
            penalty=self._reward.overlong_penalty,
        )
        return Score(outcome, accuracy, accuracy + shaping)
