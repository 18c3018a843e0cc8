"""The key/value cache of a batch of responses: the prompt is computed once for all its responses."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


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
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            layer.move_rows(source, target)


class _Layer(DynamicLayer):
    keys: Tensor
    """[rows, heads, capacity, head size], from the first pass on."""
    values: Tensor
    """Like `keys`."""

    def __init__(self, prompt_of_row: Tensor, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers
        self.prompt_of_row, self.capacity, self.length = prompt_of_row, capacity, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store the states of new positions; returns those that the queries attend to."""
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
