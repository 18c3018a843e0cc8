"""Decoding on a GPU without launching every kernel anew: a step of fixed shape is captured once and replayed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from logging import getLogger

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.rollout.kv_cache import GroupCache

logger = getLogger(__name__)

Step = Callable[[], Tensor]
CAPTURE_AT = 4
"""A capture costs some steps: shapes that hardly occur are not worth one."""
LEAST_WINDOW = 256
"""Positions attended to at least: short windows save nothing, and each is a shape."""
APART_FLOAT32, APART = 1e-3, 0.1
"""How far the first replay's logits may be from the exact step's, as a share of their spread: rounding, and no more."""


def can_be_captured(model: PreTrainedModel) -> bool:
    """Whether a step of `model` may be the same kernels each time: on a GPU, no parameter fetched from other ranks."""
    return model.device.type == "cuda" and not any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def captured(step: Step) -> Step:
    """Replays the kernels that `step` launches.

    Raises:
        RuntimeError: it waits for the device between them: a layer looks at values on the host, to choose experts say.
    """
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
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

    Rows without a live response and positions not yet written are computed and not read. What cannot be captured, or
    is replayed as something else since the model counts positions on the host, is left to the exact steps.

    Args:
        exact: the next token of each live row, [rows], to the logits after it; it grows the cache.
        forward: the model: `input_ids`, `attention_mask`, `position_ids` and `past_key_values` to logits.
        cache: after the first pass.
        padding: [rows] int64, positions before each prompt. The caller moves rows of it, of the cache and of the mask.
        mask: [rows, 1, 1, capacity], additive. Those of positions not yet written are hidden here until they are.
        capture: of a step.
    """

    def __init__(
        self,
        exact: Callable[[Tensor], Tensor],
        forward: Callable[..., Tensor],
        cache: GroupCache,
        padding: Tensor,
        mask: Tensor,
        capture: Callable[[Step], Step] = captured,
    ) -> None:
        self._exact, self._forward, self._capture = exact, forward, capture
        self._cache, self._padding, self._mask = cache, padding, mask
        self._tokens, self._at = torch.zeros_like(padding), padding.new_zeros(1)
        mask[..., cache.get_seq_length() :] = torch.finfo(mask.dtype).min
        cache.clear_ahead()
        self._seen: Counter[tuple[int, int]] = Counter()
        self._replays: dict[tuple[int, int], Step] = {}
        self._given_up = False

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after one more token of each of the first rows; valid until the next call."""
        count, position = len(tokens), self._cache.get_seq_length()
        shape = (
            min(_power_of_two(count), len(self._padding)),
            min(max(_power_of_two(position + 1), LEAST_WINDOW), self._mask.shape[-1]),
        )
        self._tokens[:count] = tokens
        self._at.fill_(position)
        self._mask[..., position] = 0
        self._seen[shape] += 1
        if self._given_up or self._seen[shape] < CAPTURE_AT:
            return self._exact(tokens)
        if shape not in self._replays:
            self._try_capture(shape)
            return self._exact(tokens)
        replayed = self._replays[shape]()[:count]
        if self._seen[shape] > CAPTURE_AT + 1:
            self._cache.grow()
            return replayed
        logits = self._exact(tokens)
        limit = APART_FLOAT32 if self._mask.dtype.itemsize >= 4 else APART
        if not float((replayed - logits).std() / logits.std()) < limit:
            self._give_up("replayed at another position than it was captured at, it gives other logits")
        return logits

    def _try_capture(self, shape: tuple[int, int]) -> None:
        try:
            self._replays[shape] = self._capture(partial(self._step, *shape))
        except Exception as error:  # the model's own code, at a shape that it was not made for
            self._give_up(str(error).partition("\n")[0])

    def _give_up(self, why: str) -> None:
        self._given_up = True
        _tell(why)

    def _step(self, rows: int, window: int) -> Tensor:
        with self._cache.writing_at(self._at, window):
            return self._forward(
                input_ids=self._tokens[:rows, None],
                attention_mask=self._mask[:rows, ..., :window].contiguous(),  # attention's kernels want aligned rows
                position_ids=self._at - self._padding[:rows, None],
                past_key_values=self._cache,
            )


@cache
def _tell(why: str) -> None:
    """Once for each reason."""
    logger.warning("a decoding step of this model cannot be replayed, and launches each kernel: %s", why)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
