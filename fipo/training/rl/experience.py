"""Responses with their advantages: what the updates consume."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fipo.algorithm.advantages import group_advantages
from fipo.batch import Outcome, Prompt, Rollout, RolloutGroup
from fipo.training.rows import Row


@dataclass(frozen=True, slots=True)
class Experience:
    """One response that is trained on."""

    prompt: Prompt
    rollout: Rollout
    outcome: Outcome
    advantage: float

    @property
    def row(self) -> Row:
        """Its tokens."""
        return Row(self.prompt.token_ids, self.rollout.token_ids)


def experiences_of(group: RolloutGroup, *, scale_by_std: bool = True) -> list[Experience]:
    """The responses of a graded group with their advantages (Eq. 1); those that timed out are compared with none."""
    group_ids = [
        index if score.outcome is Outcome.TIMEOUT else len(group.scores) for index, score in enumerate(group.scores)
    ]
    rewards = torch.tensor([score.reward for score in group.scores], dtype=torch.float64)
    advantages = group_advantages(rewards, torch.tensor(group_ids), scale_by_std=scale_by_std).tolist()
    return [
        Experience(group.prompt, rollout, score.outcome, advantage)
        for rollout, score, advantage in zip(group.rollouts, group.scores, advantages)
    ]
