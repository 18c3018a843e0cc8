"""The key/value cache of a batch of responses: the prompt is computed once for all its responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(slots=True)
class _Fixed:
    """Where a pass of fixed shape writes, and how much it reads."""

    at: Tensor
    """[1] int64, on the cache's device."""
    window: int
    """Positions that are returned, written or not."""


class GroupCache(Cache):
    """Preallocated buffers, one row a response.

    The first forward pass holds one row a prompt and fills each response's row with its prompt's; later passes append
    one position. Rows of finished responses are handed to live ones, so that the live rows are always the first.

    Args:
        prompt_of_row: [rows] int64, the row of the first pass that each response continues.
        capacity: positions in each row.
    """

    def __init__(self, prompt_of_row: Tensor, capacity: int) -> None:
        layer = partial(_Layer, prompt_of_row, capacity)
        super().__init__(layer_class_to_replicate=layer)  # type: ignore[arg-type]  # it is only ever called

    def move_rows(self, source: list[int], target: list[int]) -> None:
        """Copy the rows `source` over the rows `target`."""
        for layer in self._own_layers():
            layer.move_rows(source, target)

    @contextmanager
    def writing_at(self, at: Tensor, window: int) -> Iterator[None]:
        """A pass in here writes its one position at `at`, on the device, and attends to the first `window` positions.

        Its kernels are the same wherever it writes, so they can be captured; `grow` counts the position.
        """
        layers = self._own_layers()
        for layer in layers:
            layer.fixed = _Fixed(at, window)
        try:
            yield
        finally:
            for layer in layers:
                layer.fixed = None

    def clear_ahead(self) -> None:
        """Zero the positions not yet written: a pass of fixed shape reads them, masked, and NaN would pass a mask."""
        for layer in self._own_layers():
            for buffer in (layer.keys, layer.values):
                buffer[:, :, layer.length :] = 0

    def grow(self) -> None:
        """One position more is in use, written by a pass of fixed shape."""
        for layer in self._own_layers():
            layer.length += 1

    def _own_layers(self) -> list[_Layer]:
        return self.layers  # type: ignore[return-value]  # made by `layer_class_to_replicate`


class _Layer(DynamicLayer):
    keys: Tensor
    """[rows, heads, capacity, head size], from the first pass on."""
    values: Tensor
    """Like `keys`."""

    def __init__(self, prompt_of_row: Tensor, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers
        self.prompt_of_row, self.capacity, self.length = prompt_of_row, capacity, 0
        self.fixed: _Fixed | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store the states of new positions; returns those that the queries attend to."""
        if self.fixed is not None:
            return self._put(self.keys, key_states, self.fixed), self._put(self.values, value_states, self.fixed)
        start, self.length = self.length, self.length + key_states.shape[2]
        if start == 0:
            self.keys, self.values = self._repeated(key_states), self._repeated(value_states)
            return key_states, value_states
        rows = key_states.shape[0]
        return self._append(self.keys, key_states, rows, start), self._append(self.values, value_states, rows, start)

    def get_seq_length(self) -> int:
        """Positions in use."""
        return self.length

    def move_rows(self, source: list[int], target: list[int]) -> None:
        """Copy the rows `source` over the rows `target`."""
        for buffer in (self.keys, self.values):
            buffer[target, :, : self.length] = buffer[source, :, : self.length]

    def _repeated(self, states: Tensor) -> Tensor:
        _, heads, positions, head_dim = states.shape
        buffer = states.new_empty((len(self.prompt_of_row), heads, self.capacity, head_dim))
        buffer[:, :, :positions] = states[self.prompt_of_row]
        return buffer

    def _append(self, buffer: Tensor, states: Tensor, rows: int, start: int) -> Tensor:
        buffer[:rows, :, start : self.length] = states
        return buffer[:rows, :, : self.length]

    def _put(self, buffer: Tensor, states: Tensor, fixed: _Fixed) -> Tensor:
        rows = buffer[: states.shape[0]]
        rows.index_copy_(2, fixed.at, states)
        return rows[:, :, : fixed.window]
