"""Files of rows as users have them: JSONL, a JSON array, CSV, each plain or in gzip, and parquet."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fipo.data.columns import USUAL, present
from fipo.data.rows import Reason, Row, RowError, decode, json_row, record_row
from fipo.errors import DataError

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is no problem but a damaged file; it is skipped without being held in memory."""
MAX_ARRAY_BYTES = 2**30
"""A JSON array is read whole."""
BATCH = 1024
"""Rows read at once of what is kept by columns."""
HEAD_ROWS = 50
"""So many rows tell which columns there are."""

_OTHERS = {
    b"\xff\xfe": "text in UTF-16: save it as UTF-8 (iconv --from-code UTF-16 --to-code UTF-8 OLD > NEW)",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8 (iconv --from-code UTF-16 --to-code UTF-8 OLD > NEW)",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"\xfd7zXZ": "compressed by xz: unpack it (unxz)",
    b"BZh": "compressed by bzip2: unpack it (bunzip2)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it (unzstd)",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"version https://": "a pointer of Git LFS: fetch the file (git lfs pull)",
    b"ARROW1": "an Arrow file: write it as parquet",
    b"\xff\xff\xff\xff": "an Arrow stream: name the folder that `save_to_disk` wrote, or write it as parquet",
    b"ORC": "an ORC file: write it as parquet",
    b"\x80\x04": "a pickle, which is never opened: write it as JSONL or parquet",
    b"\x80\x05": "a pickle, which is never opened: write it as JSONL or parquet",
}
"""By their first bytes, files of other kinds, and what to do about them."""
_PARQUET, _GZIP, _BOM = b"PAR1", b"\x1f\x8b", b"\xef\xbb\xbf"


def read_file(path: Path, name: str, wanted: Collection[str]) -> Iterator[Row]:
    """Every row of a file; its kind is told by its content, and CSV by its name.

    Args:
        path: the file.
        name: what it is called at its origin: `.csv` and `.tsv`, before `.gz`, are tables of text.
        wanted: columns that are read, where the file keeps columns apart; a fault in another one does not matter.

    Raises:
        DataError: it cannot be read as a whole.
    """
    if _begins(path) == _PARQUET:
        return _parquet(path, wanted)
    return _text_rows(path, name)


def columns_of_file(path: Path, name: str) -> list[str]:
    """The columns that a file has; of one without a schema, those of its first rows.

    Raises:
        DataError: it cannot be read as a whole.
    """
    if _begins(path) == _PARQUET:
        with _damage(path, "parquet file"), pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    rows = islice(_text_rows(path, name), HEAD_ROWS)
    return list(dict.fromkeys(key for row in rows if isinstance(row.content, dict) for key in row.content))


def read_in_parts(read: Callable[[int, int], list[dict[str, Any]]], size: int, numbers: Iterator[int]) -> Iterator[Row]:
    """The rows that `read(start, stop)` gives; those that it fails on are found by halving, and have their error."""

    def rows(start: int, stop: int) -> Iterator[Row]:
        try:
            records = read(start, stop)
        except Exception as error:  # whatever the value's type raises: no UTF-8, no such date, year or time zone
            middle = (start + stop) // 2
            both = chain(rows(start, middle), rows(middle, stop)) if stop - start > 1 else [_unreadable(error)]
            yield from both
        else:
            yield from (Row(next(numbers), record) for record in records)

    def _unreadable(error: Exception) -> Row:
        if isinstance(error, UnicodeDecodeError):
            broken = RowError(Reason.NOT_UTF8, f"byte {error.start}: {error.reason}")
            return Row(next(numbers), error.object, broken)
        return Row(next(numbers), b"", RowError(Reason.UNREADABLE, f"{type(error).__name__}: {error}"))

    return rows(0, size)


def _begins(path: Path) -> bytes:
    """`PAR1`, or the first bytes of what is text, plain or compressed."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise DataError(f"{path}: must be JSONL, a JSON array, CSV or parquet; it is {what}")
    return head[:4]


def _parquet(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    numbers = count(1)
    with _damage(path, "parquet file"), pq.ParquetFile(path) as file:
        # Without any of them each row is one to be set aside.
        columns = present(file.schema_arrow.names, wanted) or None
        for batch in file.iter_batches(batch_size=BATCH, columns=columns):
            yield from read_in_parts(partial(_records, batch), len(batch), numbers)


def _records(batch: pa.RecordBatch, start: int, stop: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = batch.slice(start, stop - start).to_pylist()
    return records


def _text_rows(path: Path, name: str) -> Iterator[Row]:
    kind = name.lower().removesuffix(".gz").rpartition(".")[2]
    with _opened(path) as file:
        if kind in ("csv", "tsv"):
            yield from _csv(path, file, "\t" if kind == "tsv" else "")
            return
        first = file.readline(MAX_LINE_BYTES).removeprefix(_BOM)
        if not first.strip() and _begins_array(later := _past_blanks(file)):
            first = later
        if first.startswith(_PARQUET):
            raise DataError(f"{path}: parquet in gzip: unpack it (gunzip); parquet is compressed inside")
        if _begins_array(first):
            yield from _array(path, first, file)
            return
        _refuse_one_object(path, first, file)
        yield from _jsonl(first, file)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            file.seek(0)
            yield file
            return
    with _damage(path, "gzip file"), gzip.open(path) as inside:
        yield inside  # type: ignore[misc]


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged {what}: {error}") from error


def _begins_array(line: bytes) -> bool:
    """Whether a file that begins so is one array; JSONL whose first row is a list is still JSONL."""
    text = line.strip()
    return text.startswith((b"[{", b"[ ")) or text == b"["


def _array(path: Path, first: bytes, file: IO[bytes]) -> Iterator[Row]:
    content = first + file.read(MAX_ARRAY_BYTES)
    if len(content) > MAX_ARRAY_BYTES:
        raise DataError(f"{path}: a JSON array of over {MAX_ARRAY_BYTES >> 30} GiB: write it as JSONL (jq -c '.[]')")
    try:
        records = decode(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a JSON array must be UTF-8; byte {error.start}: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: begins as a JSON array, and is none: {error}") from error
    yield from (record_row(number, record) for number, record in enumerate(records, 1))


def _past_blanks(file: IO[bytes]) -> bytes:
    """The first line that is not blank; where it begins no array, the file is as it was."""
    start = file.tell()
    line = next((line for line in iter(partial(file.readline, MAX_LINE_BYTES), b"") if line.strip()), b"")
    if not _begins_array(line):
        file.seek(start)
    return line


def _refuse_one_object(path: Path, first: bytes, file: IO[bytes]) -> None:
    """Raise DataError for a file that is one object with all rows inside, or one row over several lines; where it is
    neither, its first row is one of JSONL."""
    start = file.tell()
    is_spread_out = first.rstrip().endswith((b"{", b"[", b","))
    content = first + (file.read(MAX_ARRAY_BYTES) if is_spread_out else file.read(1))
    file.seek(start)
    if len(content) > len(first) and not is_spread_out:
        return  # a second line
    with suppress(ValueError, RecursionError):
        found, _ = json.JSONDecoder().raw_decode(content.decode("utf-8").lstrip())
        command = _unpacks(found) if isinstance(found, dict) else ""
        if command or is_spread_out:
            how = (
                f"write each row on a line of its own ({command})"
                if command
                else "write it on one line (jq -c '.' OLD > NEW)"
            )
            lines = "over several lines" if is_spread_out else "that holds all rows"
            raise DataError(f"{path}: a JSON object {lines}: {how}")


def _unpacks(found: dict[str, Any]) -> str:
    """The command that writes the rows inside an object as JSONL; empty where it is a row itself."""
    values = list(found.values())
    if any(isinstance(found.get(name), str) for name in USUAL["prompt"]):
        return ""
    for name, of in found.items():
        if (
            isinstance(of, list)
            and of
            and all(isinstance(one, dict) and not {"role", "from"} & one.keys() for one in of)
        ):
            return f"jq -c '.[{json.dumps(name)}][]' OLD > NEW"
    tables = all(isinstance(one, dict | list) and len(one) == len(values[0]) > 1 for one in values) and len(values) > 1
    if tables and all(isinstance(one, list) or all(map(str.isdecimal, one)) for one in values):  # pandas', by columns
        return "python -c \"import pandas; pandas.read_json('OLD').to_json('NEW', orient='records', lines=True)\""
    if tables and all(isinstance(one, dict) and one.keys() == values[0].keys() for one in values):
        return "jq -c '.[]' OLD > NEW"
    return ""


def _jsonl(first: bytes, file: IO[bytes]) -> Iterator[Row]:
    line = first
    for number in count(1):
        if not line and number > 1:
            return
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Row(number, line[:1000], RowError(Reason.LINE_TOO_LONG, f"over {MAX_LINE_BYTES} bytes"))
        elif line.strip():
            yield json_row(number, line)
        line = file.readline(MAX_LINE_BYTES)


def _csv(path: Path, file: IO[bytes], delimiter: str) -> Iterator[Row]:
    """Every cell is text, as it is written: no number is read, and none is changed."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _csv_lines(path, file)
    heading = next(lines, "")
    # As spreadsheets of other languages write it: with semicolons.
    delimiter = delimiter or max(",;\t|", key=heading.count)
    reader = csv.reader(chain([heading], lines), delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if len(set(header)) < len(header):
        name = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: column {name!r} stands twice in the header")
    line = reader.line_num
    while True:
        number, line = line + 1, reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(number, b"", RowError(Reason.UNEVEN, str(error)))
        else:
            line = reader.line_num
            if len(cells) == len(header):
                yield Row(number, dict(zip(header, cells, strict=True)))
            elif cells:
                detail = f"{len(cells)} cells, {len(header)} columns"
                yield Row(number, delimiter.join(cells).encode("utf-8", "replace"), RowError(Reason.UNEVEN, detail))


def _csv_lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    """Bytes that are no UTF-8 become what validation refuses, row by row."""
    for number in count(1):
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        if len(line) == MAX_LINE_BYTES:
            raise DataError(f"{path}: line {number} has over {MAX_LINE_BYTES} bytes: is this CSV?")
        yield (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8", "surrogateescape")
