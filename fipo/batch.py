"""The data that crosses module boundaries: prompts, rollouts, scores, groups and the tensors that a step trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fipo.outcome import Grade
from fipo.outcome import Outcome as Outcome

if TYPE_CHECKING:  # data preparation knows prompts, and no tensors
    import torch
    from torch import Tensor

SHOWN_CHARACTERS = 1000
"""Of a reference answer, in tables."""


class FinishReason(StrEnum):
    """Why a response ended: the model emitted a stop token, or it reached the limit of tokens or of turns."""

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
    """The reference answer, as the grader takes it."""
    source: str = ""
    """Name of the data set or benchmark."""
    draw: int = 0
    """How often it was drawn before in the same step: each draw is a new chance."""
    grader: str = "math"
    """What tells right from wrong."""
    columns: str = "{}"
    """What it reads besides the answer, as JSON."""
    environment: str = ""
    """What answers the model's turns; empty where a response is one turn."""
    room: int | None = None
    """Tokens that the response may have, where an earlier turn has used some of the limit."""

    @property
    def draw_id(self) -> str:
        """With the seed it determines the responses: different for each draw, and the id for the first."""
        return f"{self.id}/{self.draw}" if self.draw else self.id

    @property
    def shown_answer(self) -> str:
        """The reference answer for tables, which repeat it for each response: tests may be megabytes."""
        return self.answer if len(self.answer) <= SHOWN_CHARACTERS else f"{self.answer[:SHOWN_CHARACTERS]}…"


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled response: all that follows the prompt. With an environment its observations stand between turns."""

    token_ids: NDArray[np.int32]
    """[tokens]; the stop token is included when `finish_reason` is `stop`."""
    log_probs: NDArray[np.float32]
    """[tokens]; `rollout_log_probs`: what the engine sampled with, at the sampling temperature; 0 on observations."""
    finish_reason: FinishReason
    weight_version: int
    """Version of the weights that sampled it, or its first token: the number of optimizer steps done."""
    response_mask: NDArray[np.bool_] | None = None
    """[tokens]; True where the policy sampled the token, False on observations. None: it sampled them all."""
    grade: Grade | None = None
    """The environment's verdict; None leaves it to the grader."""
    later_versions: NDArray[np.int64] | None = None
    """[tokens]; the version that sampled each token, where it was more than one. None: all by `weight_version`."""

    @property
    def versions(self) -> NDArray[np.int64]:
        """[tokens]; `later_versions`, written out."""
        alike = np.full(len(self.token_ids), self.weight_version)
        return alike if self.later_versions is None else self.later_versions

    @property
    def own(self) -> NDArray[np.bool_]:
        """[tokens]; `response_mask`, written out."""
        return np.ones(len(self.token_ids), bool) if self.response_mask is None else self.response_mask

    @property
    def own_tokens(self) -> int:
        """Tokens that the policy sampled."""
        return int(self.own.sum())

    @property
    def turns(self) -> int:
        """How often the policy spoke: observations stand between two turns, and none at the ends."""
        return 1 + int((self.own[1:] & ~self.own[:-1]).sum())

    @property
    def last_turn(self) -> NDArray[np.int32]:
        """The tokens after the last observation: what is judged."""
        observed = np.flatnonzero(~self.own)
        return self.token_ids[observed[-1] + 1 :] if len(observed) else self.token_ids


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
    explanation: str = ""
    """What the grader says of its verdict."""
    answer: str | None = None
    """What the grader read as the response's answer, its spelling normalised; None: there is none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One response with all that is known of it, from the engine to the update and the record."""

    prompt: Prompt
    index: int
    """Among the responses to the prompt."""
    rollout: Rollout
    """Tokens, `rollout_log_probs` and the version of the weights."""
    score: Score
    advantage: float | None
    """Eq. 1; None where the response is not learned from: its group has no signal or no place, or it has no verdict."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Which response of its step it is."""
        return self.prompt.id, self.prompt.draw, self.index


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """What the loss saw in the tokens of one response when it learned from them; all [own tokens] float16."""

    update: int
    """Which update of the step: 0, 1, ... In the first the policy is still the old policy, and every weight is 1."""
    influence_weights: NDArray[np.float16]
    """f_t (Eq. 7)."""
    future_kl: NDArray[np.float16]
    """Eq. 6."""
    log_ratio: NDArray[np.float16]
    """log_probs - old_log_probs (Eq. 3)."""
    entropy: NDArray[np.float16]
    """Of the policy's distribution over the vocabulary, in nats, at the sampling temperature."""
    mismatch: NDArray[np.float16]
    """old_log_probs - rollout_log_probs: trainer against inference engine, in nats."""


@dataclass(frozen=True, slots=True, eq=False)
class RolloutGroup:
    """The responses to one draw of a prompt; two groups are equal only if they are the same."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    scores: tuple[Score, ...] = ()
    """Of each response; empty until they are graded."""
    advantages: tuple[float | None, ...] = ()
    """Of each response; empty where the group is not trained on."""

    def graded(self, scores: tuple[Score, ...]) -> RolloutGroup:
        """The same group with its scores."""
        return replace(self, scores=scores)

    @property
    def samples(self) -> list[Sample]:
        """Its responses one by one; of a graded group."""
        advantages = self.advantages or (None,) * len(self.rollouts)
        return [
            Sample(self.prompt, index, rollout, score, advantage)
            for index, (rollout, score, advantage) in enumerate(
                zip(self.rollouts, self.scores, advantages, strict=True)
            )
        ]


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Sequences one after the other in one row. Position t holds a token and asks for the log-prob of its successor.

    Under sequence parallelism each rank holds a shard of the time axis; `lengths` are those of the whole row.
    """

    input_ids: Tensor
    """[1, time] int64."""
    targets: Tensor
    """[1, time] int64; the token that follows in the same sequence, any token at its end."""
    response_mask: Tensor
    """[1, time] bool; True where the target was sampled by the policy and is to be learned from."""
    position_ids: Tensor
    """[1, time] int64; from 0 in each sequence."""
    segment_ids: Tensor
    """[1, time] int64; 0, 1, ... by sequence."""
    lengths: tuple[int, ...]
    """Tokens of each sequence; they add up to the row."""
    have_observations: bool = False
    """Whether tokens that the policy did not sample stand inside responses."""

    def to(self, device: torch.device) -> PackedTokens:
        """The same tokens on `device`."""
        return _each(self, lambda tensor: tensor.to(device))

    def shard(self, index: int, count: int) -> PackedTokens:
        """Part `index` of `count` equal parts of the time axis."""
        return _each(self, lambda tensor: tensor.chunk(count, dim=-1)[index])


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """One micro-batch of RL: packed tokens and what each target is worth."""

    tokens: PackedTokens
    """Prompts and responses."""
    advantages: Tensor
    """[1, time] float32; group-relative, broadcast over the response, 0 elsewhere."""
    rollout_log_probs: Tensor
    """[1, time] float32; from the inference engine, 0 outside the response."""
    old_log_probs: Tensor
    """[1, time] float32; the trainer's own, before the updates of this rollout batch."""
    old_entropy: Tensor
    """[1, time] float32; nats, of the same distributions."""
    forking: Tensor | None = None
    """[1, time] bool; the tokens of highest entropy then, where nothing else is learned from."""
    samples: tuple[Sample, ...] = ()
    """What the rows are made of, in the order of their segments, where it is known."""

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on `device`."""
        return _each(self, lambda tensor: tensor.to(device))

    def shard(self, index: int, count: int) -> TrainingBatch:
        """Part `index` of `count` equal parts of the time axis."""
        return _each(self, lambda tensor: tensor.chunk(count, dim=-1)[index])


_Batch = TypeVar("_Batch", PackedTokens, TrainingBatch)


def _each(batch: _Batch, change: Callable[[Tensor], Tensor]) -> _Batch:
    """The same batch with every tensor changed."""
    from torch import Tensor

    changed: dict[str, Any] = {}
    for each in fields(batch):
        value = getattr(batch, each.name)
        if isinstance(value, Tensor):
            changed[each.name] = change(value)
        elif isinstance(value, PackedTokens):
            changed[each.name] = _each(value, change)
    return replace(batch, **changed)
