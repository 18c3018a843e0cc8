"""Files of problems: parquet for the result, and a staging file for what is not yet decided."""

from __future__ import annotations

import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import pyarrow.parquet as pq

from fipo.data.schema import COLUMNS, SCHEMA, Problem, to_table

Item = TypeVar("Item")

ROW_GROUP = 8192
"""Problems written at once."""


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


class ProblemWriter:
    """Writes problems to one parquet file, the same bytes for the same problems."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = 0
        self.prompt_tokens: Counter[int] = Counter()
        self._pending: list[Problem] = []
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def write(self, problem: Problem, prompt_tokens: int) -> None:
        """Append one problem and count the length of its prompt."""
        self._pending.append(problem)
        self.rows += 1
        self.prompt_tokens[prompt_tokens] += 1
        if len(self._pending) == ROW_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(to_table(self._pending))
            self._pending.clear()


class Staged:
    """Problems on disk in the order in which they came, read in turn or at random; memory holds 8 bytes of each."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self._offsets = array("Q")
        with path.open("wb") as file:
            for problem in problems:
                self._offsets.append(file.tell())
                file.write(json.dumps([getattr(problem, name) for name in COLUMNS]).encode() + b"\n")
        self._file = path.open("rb")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Problem:
        self._file.seek(self._offsets[index])
        return Problem(*json.loads(self._file.readline()))

    def __iter__(self) -> Iterator[Problem]:
        self._file.seek(0)
        yield from (Problem(*json.loads(line)) for line in self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
