"""Raw rows of a data set, numbered, whatever it is kept in. A broken row is a row too, with its error."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fipo.config import Source
from fipo.data import programs, running_sums
from fipo.errors import DataError
from fipo.uris import local_file

if TYPE_CHECKING:
    from datasets import DatasetBuilder

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is no problem but a damaged file; it is skipped without being held in memory."""


class Reason(StrEnum):
    """Why a row was quarantined (a fault of the row) or removed (a fact about the set)."""

    LINE_TOO_LONG = "line too long"
    NOT_UTF8 = "not UTF-8"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not a JSON object"
    NO_PROMPT = "no prompt"
    NO_ANSWER = "no answer"
    NO_RESPONSE = "no demonstration"
    NOT_TEXT = "not text"
    NOT_UNICODE = "not valid Unicode"
    NO_COLUMN = "a grader's column is missing"
    UNVERIFIABLE = "answer cannot be verified"
    GULLIBLE = "answer accepts another one"
    UNENCODABLE = "the tokenizer cannot encode it"
    CONFLICT = "same prompt, other answer"
    DUPLICATE = "exact duplicate"
    NEAR_DUPLICATE = "near duplicate"
    CONTAMINATED = "overlaps a benchmark"
    TOO_MANY_TOKENS = "prompt too long"


class RowError(Exception):
    """This row cannot be used; the others can."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Row:
    """One row as found."""

    line: int
    """Number of the line or row, from 1."""
    content: Mapping[str, Any] | bytes
    """The record, or the beginning of what could not be read."""
    error: RowError | None = None

    def excerpt(self, characters: int = 200) -> str:
        """The beginning of the row, to recognise it by."""
        if isinstance(self.content, bytes):
            return self.content[:characters].decode("utf-8", "backslashreplace")
        return json.dumps(self.content, ensure_ascii=True, default=repr)[:characters]


def read_rows(source: Source) -> Iterator[Row]:
    """Every row of `source` in order, at most `source.limit`.

    Raises:
        DataError: the data set is missing or unreadable as a whole.
        StorageError: the object store refused.
    """
    return islice(_rows(source), source.limit)


def local_path(uri: str) -> Path:
    """The file or folder that a path or a `file://` URI means.

    Raises:
        DataError: the URI is of another kind.
    """
    if uri.startswith("file:"):
        try:
            return local_file(uri)
        except ValueError as error:
            raise DataError(f"uri {error}") from None
    if "://" in uri:
        raise DataError(f"uri {uri!r}: expected a path, file://, s3:// or hf://organisation/name")
    return Path(uri)


def commit_of(source: Source) -> str:
    """The commit of the hub's data set that `read_rows` reads: a pinned one, else the newest of `source.revision`, or,
    where the hub cannot be reached, the one that was loaded here last.

    Raises:
        DataError: the hub does not know the data set, or cannot be reached and nothing is kept here.
    """
    if _is_pinned(source):
        return source.revision
    name = source.uri.removeprefix("hf://")
    with _explained(name, source):
        return str(_builder(name, source).hash)


def _rows(source: Source) -> Iterator[Row]:
    if source.is_made:
        yield from (Row(number, record) for number, record in enumerate(_made(source), 1))
    elif source.uri.startswith("hf://"):
        yield from _data_set(source.uri.removeprefix("hf://"), source)
    else:
        with _local(source.uri) as path:
            if path.is_dir():
                yield from _data_set(str(path), source)
            else:
                yield from _file(path)


def _made(source: Source) -> Iterator[Mapping[str, str]]:
    count = source.limit or 0
    if source.programs:
        return programs.generate(source.programs, count)
    return running_sums.generate(source.generator, count) if source.generator else iter(())


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    """A local file with the content of `uri`."""
    if uri.startswith("s3:"):
        from fipo.storage import open_store

        folder, _, name = uri.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="fipo-source-") as directory:
            path = Path(directory) / "source"
            open_store(folder).download(name, path)
            yield path
    else:
        yield local_path(uri)


def _file(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return _parquet(path) if is_parquet else _jsonl(path)


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number in count(1):
            line = file.readline(MAX_LINE_BYTES)
            if not line:
                return
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield Row(number, line[:1000], RowError(Reason.LINE_TOO_LONG, f"over {MAX_LINE_BYTES} bytes"))
                continue
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> Row:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Row(number, line, RowError(Reason.NOT_UTF8, f"byte {error.start}: {error.reason}"))
    except (ValueError, RecursionError) as error:
        return Row(number, line, RowError(Reason.NOT_JSON, str(error)))
    if not isinstance(record, dict):
        return Row(number, line, RowError(Reason.NOT_AN_OBJECT, type(record).__name__))
    return Row(number, record)


def _parquet(path: Path) -> Iterator[Row]:
    numbers = count(1)
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            yield from _batch(batch, numbers)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged parquet file: {error}") from error


def _batch(batch: pa.RecordBatch, numbers: Iterator[int]) -> Iterator[Row]:
    try:
        for record in batch.to_pylist():
            yield Row(next(numbers), record)
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            yield Row(next(numbers), error.object, RowError(Reason.NOT_UTF8, f"byte {error.start}: {error.reason}"))
        else:
            for index in range(len(batch)):
                yield from _batch(batch.slice(index, 1), numbers)


def _data_set(name: str, source: Source) -> Iterator[Row]:
    with _explained(name, source):
        builder = _builder(name, source)
        if _is_pinned(source) and builder.hash != source.revision and not Path(name).is_dir():
            # Without the hub, `datasets` takes what was loaded last, whatever is asked for, and only logs that it does.
            raise DataError(
                f"data set {name!r}: revision {source.revision} is asked for, the hub cannot be reached, and kept here "
                f"is {builder.hash}; load the revision once while the hub can be reached"
            )
        builder.download_and_prepare()
        data_set = builder.as_dataset(split=source.split)
    yield from (Row(number, record) for number, record in enumerate(data_set, 1))


def _builder(name: str, source: Source) -> DatasetBuilder:
    """What knows the data set's commit, and can load its rows."""
    import datasets

    return datasets.load_dataset_builder(name, source.subset or None, revision=source.revision or None)


def _is_pinned(source: Source) -> bool:
    from huggingface_hub.file_download import REGEX_COMMIT_HASH

    return REGEX_COMMIT_HASH.fullmatch(source.revision) is not None


@contextmanager
def _explained(name: str, source: Source) -> Iterator[None]:
    import datasets

    try:
        yield
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data set {name!r} (subset {source.subset or 'default'!r}, split {source.split!r}) cannot be loaded: "
            f"{error}. A single JSONL or parquet file named by its path is read row by row, broken rows set aside"
        ) from error
