"""Files of problems: parquet for the result, and a staging file for what is not yet decided."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fipo.data.schema import SCHEMA, Problem, from_table, to_table

Item = TypeVar("Item")

ROW_GROUP = 8192
"""Problems written at once."""


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ProblemWriter:
    """Writes problems to one parquet file, the same bytes for the same problems."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = 0
        self._pending: list[Problem] = []
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def write(self, problem: Problem) -> None:
        """Append one problem."""
        self._pending.append(problem)
        self.rows += 1
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
    """Problems on disk in the order in which they came, read one by one or at random without filling the memory."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self._path = path
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for batch in batched(problems, ROW_GROUP):
                writer.write_table(to_table(batch))
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Problem]:
        with pa.OSFile(str(self._path)) as file:
            reader = pa.ipc.open_file(file)
            for index in range(reader.num_record_batches):
                yield from from_table(reader.get_batch(index))

    def text(self, column: str, index: int) -> str:
        """One value of one problem."""
        return str(self._table.column(column)[index].as_py())
