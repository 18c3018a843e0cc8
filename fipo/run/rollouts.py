"""Every response that training has sampled, read from the parquet records in a run's store, while it runs too."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from fipo.errors import DataError
from fipo.storage import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_KEY = re.compile(
    r"(?:(?P<lineage>[0-9a-f]{12})/)?step-(?P<step>\d{6,})(?:\.(?P<part>\d+)-of-(?P<parts>\d+))?\.parquet"
)
_CACHED = 64


class Rollouts:
    """The records under a prefix of a store: a file for each rank that trained a step, in a folder for each lineage.

    A lineage is training with certain settings and inputs; what a stopped one had is continued in it. Records that
    were copied out of a store are a lineage without a name.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self.uri = f"{store.uri}/{prefix}".rstrip("/")
        self._cached = lru_cache(_CACHED)(self._read)

    def lineages(self) -> dict[str, list[int]]:
        """The steps that there are, ascending, by lineage.

        Raises:
            StorageError: the store cannot be read.
        """
        return {lineage: sorted(steps) for lineage, steps in self._complete(self._prefix).items()}

    def read(self, lineage: str, step: int, columns: Sequence[str]) -> pa.Table:
        """Columns of all responses of a step; of the last few steps they are kept.

        Raises:
            ObjectNotFound: there is no such step.
            DataError: the file is damaged.
            StorageError: the store cannot be read.
        """
        keys = self._keys(lineage, step)
        return self._cached(tuple((key, self._store.stat(key).etag) for key in keys), tuple(columns))

    def read_rows(self, lineage: str, step: int, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Columns of some responses of a step, by their places in it; no more of the file is fetched than they need.

        Raises:
            ObjectNotFound, DataError, StorageError: see `read`.
        """
        import pyarrow as pa

        found, start = [], 0
        for key in self._keys(lineage, step):
            with opened(self._store, key) as file:
                for index in range(file.metadata.num_row_groups):
                    end = start + file.metadata.row_group(index).num_rows
                    inside = [row - start for row in rows if start <= row < end]
                    if inside:
                        found.append(_with(file.read_row_group(index, _there(file, columns)).take(inside), columns))
                    start = end
        return pa.concat_tables(found)

    def whole(self, lineage: str, step: int) -> pa.Table:
        """All that is recorded of a step.

        Raises:
            ObjectNotFound, DataError, StorageError: see `read`.
        """
        import pyarrow as pa

        found = []
        for key in self._keys(lineage, step):
            with opened(self._store, key) as file:
                names = file.schema_arrow.names
                found.append(_with(file.read(), names if "response_tokens" in names else [*names, "response_tokens"]))
        return pa.concat_tables(found)

    def _read(self, files: tuple[tuple[str, str], ...], columns: tuple[str, ...]) -> pa.Table:
        """By key and ETag, which tells a file apart from one that has replaced it."""
        import pyarrow as pa

        found = []
        for key, _ in files:
            with opened(self._store, key) as file:
                found.append(_with(file.read(_there(file, columns)), columns))
        return pa.concat_tables(found)

    def _keys(self, lineage: str, step: int) -> list[str]:
        """Of a step's files, in the order of its responses."""
        name = f"{self._prefix}{lineage}{'/' if lineage else ''}step-{step:06d}"
        found = self._complete(f"{name}.").get(lineage, {})
        return found.get(step) or [f"{name}.parquet"]  # which the store then misses

    def _complete(self, prefix: str) -> dict[str, dict[int, list[str]]]:
        """The files of steps that all ranks have written, by lineage and step."""
        parts: dict[tuple[str, int, int], dict[int, str]] = {}
        for info in self._store.list(prefix):
            if match := _KEY.fullmatch(info.key.removeprefix(self._prefix)):
                whole = match["lineage"] or "", int(match["step"]), int(match["parts"] or 1)
                parts.setdefault(whole, {})[int(match["part"] or 0)] = info.key
        found: dict[str, dict[int, list[str]]] = {}
        for (lineage, step, count), keys in parts.items():
            if len(keys) == count:
                found.setdefault(lineage, {})[step] = [keys[part] for part in range(count)]
        return found


def _there(file: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    """Those that the file has, and what it takes to make up for those that records of older versions lack."""
    names = set(file.schema_arrow.names)
    more = {"token_ids", "response_mask"} if "response_tokens" in columns and "response_tokens" not in names else set()
    return [name for name in file.schema_arrow.names if name in {*columns, *more}]


def _with(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The columns in their order: what an older record lacks is null, except what can be counted."""
    import pyarrow as pa

    for name in columns:
        if name in table.column_names:
            continue
        values: list[int | None] = [None] * len(table)
        if name == "response_tokens":
            ids, masks = (table[column].to_pylist() for column in ("token_ids", "response_mask"))
            values = [sum(mask) if mask else len(tokens) for tokens, mask in zip(ids, masks)]
        table = table.append_column(name, pa.array(values))
    return table.select(list(columns))


@contextmanager
def opened(store: ObjectStore, key: str) -> Iterator[pq.ParquetFile]:
    """A parquet file in a store, of which only what is asked for is fetched."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq.ParquetFile(StoredFile(store, key), pre_buffer=True)
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"{store.uri}/{key}: expected a record of rollouts (parquet); it is damaged: {why}") from None


class StoredFile(io.RawIOBase):
    """An object as a file to read and seek in, by ranges."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key, self._size, self._at = store, key, store.stat(key).size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the beginning, from here or from the end."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer from here."""
        wanted = min(len(buffer), self._size - self._at)
        data = self._store.get_range(self._key, self._at, wanted) if wanted > 0 else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
