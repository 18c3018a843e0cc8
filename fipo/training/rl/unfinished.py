"""A step that was left between two of its updates: what a checkpoint keeps of it, so that it goes on exactly there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup, Score, TokenTrace
from fipo.outcome import Grade
from fipo.training.rl.metrics import Updates
from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.traces import Traces

OLD = "old/"
"""Before the keys of the old policy's."""
TRACED = tuple(field.name for field in fields(TokenTrace) if field.name != "update")
_PROMPT, _SCORE, _GRADE = TypeAdapter(Prompt), TypeAdapter(Score), TypeAdapter(Grade | None)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a step that is not done has besides weights and optimizer; of one that has just begun, its batch alone."""

    batch: RolloutBatch
    """With advantages; the same on every rank."""
    updates: Updates = field(default_factory=Updates)
    """What those that are done have measured on this rank."""
    old_policy: Mapping[str, Tensor] | None = None
    """Of the responses that are to be learned from yet, by update and place in it (`Learner.old_policy`)."""
    traces: Traces = field(default_factory=dict)
    """What the loss saw in those that this rank has learned from."""

    def tensors(self, *, is_main: bool) -> dict[str, Tensor]:
        """This rank's share, for a checkpoint; the batch goes with the main rank's."""
        found = {"updates": _bytes(self.updates.as_json())}
        found |= {f"{OLD}{key}": tensor for key, tensor in (self.old_policy or {}).items()}
        found |= _trace_tensors(self.traces)
        return found | (_batch_tensors(self.batch) if is_main else {})

    @classmethod
    def read(cls, shares: Sequence[Mapping[str, Tensor]], rank: int, ranks: int) -> Unfinished:
        """From the shares of all ranks that wrote it, for one of any number of ranks."""
        measured = [json.loads(_text(share["updates"])) for share in shares]
        old = {key.removeprefix(OLD): one for share in shares for key, one in share.items() if key.startswith(OLD)}
        traces = {key: one for share in shares[rank::ranks] for key, one in _traces(share).items()}
        return cls(_batch(shares[0]), Updates.from_json(measured, rank, ranks), old, traces)


def _trace_tensors(traces: Traces) -> dict[str, Tensor]:
    """The tokens of all responses one after the other."""
    told = [[*key, one.update, len(one.entropy)] for key, one in traces.items()]
    tokens = [np.stack([getattr(one, name) for name in TRACED]) for one in traces.values()]
    whole = np.concatenate([np.empty((len(TRACED), 0), np.float16), *tokens], axis=1)
    return {"traced": _bytes(told), "traces": torch.from_numpy(whole)}


def _traces(tensors: Mapping[str, Tensor]) -> Traces:
    told = json.loads(_text(tensors["traced"]))
    tokens = tensors["traces"].numpy()
    ends = np.cumsum([0, *(length for *_, length in told)])
    return {
        (prompt_id, draw, index): TokenTrace(update, *tokens[:, start:end])
        for (prompt_id, draw, index, update, _), (start, end) in zip(told, pairwise(ends), strict=True)
    }


def _batch_tensors(batch: RolloutBatch) -> dict[str, Tensor]:
    """Tokens, log-probs and masks of all responses one after the other; all else as JSON."""
    rollouts = [rollout for group in batch.sampled for rollout in group.rollouts]
    groups = [
        {
            "prompt": asdict(group.prompt),
            "scores": [asdict(score) for score in group.scores],
            "advantages": group.advantages,
            "rollouts": [
                {
                    "tokens": len(one.token_ids),
                    "finish_reason": one.finish_reason,
                    "weight_version": one.weight_version,
                    "masked": one.response_mask is not None,
                    "grade": asdict(one.grade) if one.grade else None,
                }
                for one in group.rollouts
            ],
        }
        for group in batch.sampled
    ]
    told = {"groups": groups, "kept": batch.kept, "rounds": batch.rounds, "prompts_drawn": batch.prompts_drawn}
    return {
        "batch": _bytes(told),
        "token_ids": torch.from_numpy(np.concatenate([one.token_ids for one in rollouts])),
        "log_probs": torch.from_numpy(np.concatenate([one.log_probs for one in rollouts])),
        "own": torch.from_numpy(np.concatenate([one.own for one in rollouts])),
    }


def _batch(tensors: Mapping[str, Tensor]) -> RolloutBatch:
    told = json.loads(_text(tensors["batch"]))
    flat = {name: tensors[name].numpy() for name in ("token_ids", "log_probs", "own")}
    start = 0
    groups = []
    for group in told["groups"]:
        rollouts = []
        for one in group["rollouts"]:
            here = slice(start, start := start + one["tokens"])
            rollouts.append(
                Rollout(
                    token_ids=flat["token_ids"][here],
                    log_probs=flat["log_probs"][here],
                    finish_reason=FinishReason(one["finish_reason"]),
                    weight_version=one["weight_version"],
                    response_mask=flat["own"][here] if one["masked"] else None,
                    grade=_GRADE.validate_python(one["grade"]),
                )
            )
        scores = tuple(map(_SCORE.validate_python, group["scores"]))
        prompt = _PROMPT.validate_python(group["prompt"])
        groups.append(RolloutGroup(prompt, tuple(rollouts), scores, tuple(group["advantages"])))
    return RolloutBatch(groups, told["kept"], told["rounds"], told["prompts_drawn"])


def _bytes(tree: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(tree).encode()), dtype=torch.uint8)


def _text(tensor: Tensor) -> str:
    return tensor.numpy().tobytes().decode()
