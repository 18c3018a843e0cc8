"""The advantages of a rollout batch, computed once: the updates and the records read the same."""

from __future__ import annotations

from dataclasses import replace

import torch

from fipo.algorithm.advantages import group_advantages
from fipo.batch import Outcome, RolloutGroup
from fipo.training.rl.sampling import RolloutBatch


def with_advantages(batch: RolloutBatch, *, scale_by_std: bool = True) -> RolloutBatch:
    """The batch with advantages (Eq. 1) in the groups that are trained on."""
    sampled = list(batch.sampled)
    for index in batch.kept:
        sampled[index] = compared(sampled[index], scale_by_std=scale_by_std)
    return replace(batch, sampled=sampled)


def compared(group: RolloutGroup, *, scale_by_std: bool = True) -> RolloutGroup:
    """The group with the advantage of each response over the others; those that timed out are compared with none."""
    judged = [index for index, score in enumerate(group.scores) if score.outcome is not Outcome.TIMEOUT]
    rewards = torch.tensor([group.scores[index].reward for index in judged], dtype=torch.float64)
    advantages: list[float | None] = [None] * len(group.scores)
    same_prompt = torch.zeros(len(judged), dtype=torch.int64)
    for index, advantage in zip(judged, group_advantages(rewards, same_prompt, scale_by_std=scale_by_std).tolist()):
        advantages[index] = advantage
    return replace(group, advantages=tuple(advantages))
