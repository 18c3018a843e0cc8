"""Token rows and their padding: what SFT and RL feed to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and the response to learn from."""

    prompt_ids: Sequence[int]
    response_ids: NDArray[np.int32]

    def __len__(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows side by side, right-padded to the longest."""

    input_ids: Tensor
    """[batch, time] int64."""
    attention_mask: Tensor
    """[batch, time] bool, False on padding."""
    response_mask: Tensor
    """[batch, time] bool, True on response tokens."""

    def to(self, device: torch.device) -> PaddedRows:
        """The same rows on `device`."""
        return PaddedRows(*(tensor.to(device) for tensor in (self.input_ids, self.attention_mask, self.response_mask)))


def pad_rows(rows: Sequence[Row], pad_token_id: int) -> PaddedRows:
    """Stack rows. No rows give one of two padding tokens: a rank without data must still take part in the step."""
    time = max((len(row) for row in rows), default=2)
    input_ids = np.full((max(1, len(rows)), time), pad_token_id, dtype=np.int64)
    attention_mask, response_mask = np.zeros(input_ids.shape, bool), np.zeros(input_ids.shape, bool)
    attention_mask[len(rows) :, 0] = True
    for index, row in enumerate(rows):
        prompt, end = len(row.prompt_ids), len(row)
        input_ids[index, :prompt] = row.prompt_ids
        input_ids[index, prompt:end] = row.response_ids
        attention_mask[index, :end] = True
        response_mask[index, prompt:end] = True
    return PaddedRows(*map(torch.from_numpy, (input_ids, attention_mask, response_mask)))


def spread(values: Sequence[float | NDArray[np.float32]], mask: Tensor) -> Tensor:
    """Write one value (or one per token) of each row over its masked positions: [batch, time] float32, else 0."""
    result = torch.zeros(mask.shape, dtype=torch.float32)
    for index, value in enumerate(values):
        result[index, mask[index]] = torch.as_tensor(value, dtype=torch.float32)
    return result
