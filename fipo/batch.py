"""The data that crosses module boundaries: prompts, rollouts, scores, groups and the tensors that a step trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fipo.outcome import Outcome as Outcome


class FinishReason(StrEnum):
    """Why a response ended: the model emitted a stop token, or it reached the length limit."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One problem, tokenized."""

    id: str
    """Content hash of the problem (hex); equal problems have equal ids."""
    text: str
    """The problem as the data set has it."""
    token_ids: tuple[int, ...]
    """The prompt as the model sees it, template included."""
    answer: str
    """The reference answer, as the verifier takes it."""
    source: str = ""
    """Name of the data set or benchmark."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled response."""

    token_ids: NDArray[np.int32]
    """[tokens]; the stop token is included when `finish_reason` is `stop`."""
    log_probs: NDArray[np.float32]
    """[tokens]; `rollout_log_probs`: what the engine sampled with, at the sampling temperature."""
    finish_reason: FinishReason
    weight_version: int
    """Version of the weights that sampled it: the number of optimizer steps done."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the reward functions say of one response."""

    outcome: Outcome
    accuracy: float
    """1.0 if correct, else 0.0: dynamic sampling and the metrics look at this."""
    reward: float
    """What the advantage is computed from: the weighted sum of `components`."""
    components: Mapping[str, float] = field(default_factory=dict)
    """What each reward function said, before its weight; empty where there is no verdict."""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The responses to one prompt; `scores` is empty until they are graded."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    scores: tuple[Score, ...] = ()

    def graded(self, scores: tuple[Score, ...]) -> RolloutGroup:
        """The same group with its scores."""
        return replace(self, scores=scores)


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Whole sequences, prompt and response, right-padded: one row each. Position t describes the token at t.

    The log-probability of the first token of a row is not defined; `response_mask` is False there.
    """

    input_ids: Tensor
    """[batch, time] int64."""
    attention_mask: Tensor
    """[batch, time] bool; False on padding."""
    response_mask: Tensor
    """[batch, time] bool; True on tokens that the policy sampled and that are to be learned from."""
    advantages: Tensor
    """[batch, time] float32; group-relative, broadcast over the response, 0 elsewhere."""
    rollout_log_probs: Tensor
    """[batch, time] float32; from the inference engine, 0 outside the response."""
    old_log_probs: Tensor | None = None
    """[batch, time] float32; the trainer's own, before the updates of this rollout batch."""

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on `device`."""
        old_log_probs = None if self.old_log_probs is None else self.old_log_probs.to(device)
        return TrainingBatch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            response_mask=self.response_mask.to(device),
            advantages=self.advantages.to(device),
            rollout_log_probs=self.rollout_log_probs.to(device),
            old_log_probs=old_log_probs,
        )
