"""Decoding on a GPU without launching every kernel anew: a step of fixed shape is captured once and replayed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.rollout.kv_cache import GroupCache

Step = Callable[[], Tensor]
CAPTURE_AT = 4
"""A capture costs some steps: shapes that hardly occur are not worth one."""
LEAST_WINDOW = 256
"""Positions attended to at least: short windows save nothing, and each is a shape."""


def can_be_captured(model: PreTrainedModel) -> bool:
    """Whether a step of `model` is the same kernels each time: on a GPU, no parameter fetched from other ranks."""
    return model.device.type == "cuda" and not any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def captured(step: Step) -> Step:
    """Replays the kernels that `step` launches; `step` itself where it waits for the device between them.

    A layer that looks at values on the host, to choose among experts say, cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError:
        return step
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.cuda.graph(graph):
        output = step()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class FixedSteps:
    """Decoding steps of one batch whose shapes are rounded up, so that few occur and each is worth capturing.

    Rows without a live response and positions not yet written are computed and not read.

    Args:
        forward: the model: `input_ids`, `attention_mask`, `position_ids` and `past_key_values` to logits.
        cache: after the first pass.
        padding: [rows] int64, positions before each prompt. The caller moves rows of it, of the cache and of the mask.
        mask: [rows, 1, 1, capacity], additive. Those of positions not yet written are hidden here until they are.
        capture: of a step.
    """

    def __init__(
        self,
        forward: Callable[..., Tensor],
        cache: GroupCache,
        padding: Tensor,
        mask: Tensor,
        capture: Callable[[Step], Step] = captured,
    ) -> None:
        self._forward, self._cache, self._padding, self._mask, self._capture = forward, cache, padding, mask, capture
        self._tokens, self._at = torch.zeros_like(padding), padding.new_zeros(1)
        mask[..., cache.get_seq_length() :] = torch.finfo(mask.dtype).min
        cache.clear_ahead()
        self._seen: Counter[tuple[int, int]] = Counter()
        self._steps: dict[tuple[int, int], Step] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after one more token of each of the first rows; valid until the next call."""
        count, position = len(tokens), self._cache.get_seq_length()
        shape = (
            min(_power_of_two(count), len(self._padding)),
            min(max(_power_of_two(position + 1), LEAST_WINDOW), self._mask.shape[-1]),
        )
        self._tokens[:count] = tokens
        self._at.fill_(position)
        self._seen[shape] += 1
        if self._seen[shape] == CAPTURE_AT:
            self._steps[shape] = self._capture(lambda: self._step(*shape))
        logits = self._steps[shape]() if shape in self._steps else self._step(*shape)
        self._cache.grow()
        return logits[:count]

    def _step(self, rows: int, window: int) -> Tensor:
        mask = self._mask[:rows].index_fill_(-1, self._at, 0)
        with self._cache.writing_at(self._at, window):
            return self._forward(
                input_ids=self._tokens[:rows, None],
                attention_mask=mask[..., :window].contiguous(),  # attention's kernels want aligned rows
                position_ids=self._at - self._padding[:rows, None],
                past_key_values=self._cache,
            )


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
