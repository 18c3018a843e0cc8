"""Token rows and how they are packed: what SFT and RL feed to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fipo.batch import PackedTokens


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and the response to learn from."""

    prompt_ids: Sequence[int]
    response_ids: NDArray[np.int32]
    response_mask: NDArray[np.bool_] | None = None
    """[response tokens]; False on what is read and not learned: an environment's observations. None: all is learned."""

    def __len__(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.response_ids)


def pack_rows(rows: Sequence[Row], pad_token_id: int, *, multiple_of: int = 1) -> PackedTokens:
    """Lay rows one after the other, without padding between them.

    Padding, as a sequence of its own, makes the length a multiple of `multiple_of`; no rows give padding alone, since a
    rank without data must still take part in the step.
    """
    used = sum(map(len, rows))
    padding = -used % multiple_of if used else multiple_of
    lengths = [len(row) for row in rows] + [padding] * (padding > 0)
    ends = np.cumsum(lengths)
    input_ids = np.full((1, used + padding), pad_token_id, dtype=np.int64)
    response_mask = np.zeros(input_ids.shape, bool)
    for row, end in zip(rows, ends):
        answer = end - len(row.response_ids)
        input_ids[0, end - len(row) : answer] = row.prompt_ids
        input_ids[0, answer:end] = row.response_ids
        response_mask[0, answer - 1 : end - 1] = True if row.response_mask is None else row.response_mask
    starts = np.repeat(ends - lengths, lengths)
    return PackedTokens(
        input_ids=torch.from_numpy(input_ids),
        targets=torch.from_numpy(np.roll(input_ids, -1, axis=1)),
        response_mask=torch.from_numpy(response_mask),
        position_ids=torch.from_numpy(np.arange(used + padding) - starts)[None],
        segment_ids=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))[None],
        lengths=tuple(lengths),
        have_observations=any(row.response_mask is not None for row in rows),
    )


def spread(values: Sequence[float | NDArray[np.float32]], tokens: PackedTokens) -> Tensor:
    """Write one value (or one per token that is learned) of each row over its response: [1, time] float32, else 0."""
    result = torch.zeros(tokens.input_ids.shape, dtype=torch.float32)
    for segment, value in enumerate(values):
        where = tokens.response_mask & (tokens.segment_ids == segment)
        result[where] = torch.as_tensor(value, dtype=torch.float32)
    return result
