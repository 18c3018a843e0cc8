"""Raw rows of a data set, numbered, wherever it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.config import Source
from fipo.data import programs, running_sums, search
from fipo.data.columns import columns_read, present
from fipo.data.formats import BATCH, columns_of_file, read_file, read_in_parts
from fipo.data.rows import Row
from fipo.errors import DataError
from fipo.uris import local_file

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

COPY = "source"
"""Name of the local copy of an object."""
MAX_LOOK_BYTES = 64 * 2**20
"""So much is brought here from an object store to look at the first rows."""


def read_rows(source: Source) -> Iterator[Row]:
    """Every row of `source` in order, at most `source.limit`.

    Raises:
        DataError: the data set is missing or unreadable as a whole.
        StorageError: the object store refused.
    """
    return islice(_rows(source), source.limit)


def columns_of(source: Source) -> list[str]:
    """The columns that a data set has, whether they are read or not; of one without a schema, of its first rows.

    Raises:
        DataError: the data set is missing or unreadable as a whole.
        StorageError: the object store refused.
    """
    if source.is_made:
        return ["prompt", "answer", "response"]
    with _local(source) as path:
        if _is_data_set(path):
            return list(_loaded(str(path), source).column_names)
        return columns_of_file(Path(path), source.uri)


def is_elsewhere(source: Source) -> str:
    """Why its rows cannot be looked at in seconds; empty where they can.

    Raises:
        DataError: the data set is missing, or the hub cannot be reached.
        StorageError: the object store refused.
    """
    if source.uri.startswith("s3:"):
        from fipo.storage import open_store

        folder, _, name = source.uri.rpartition("/")
        size = open_store(folder).stat(name).size
        return "" if size <= MAX_LOOK_BYTES else f"it has {size:,} bytes in the object store"
    name = source.uri.removeprefix("hf://")
    if name == source.uri or Path(name).is_dir():
        return ""
    with _explained(name, source):
        return "" if Path(_builder(name, source).cache_dir).exists() else "it is not downloaded yet"


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
        return
    with _local(source) as path:
        if _is_data_set(path):
            yield from _data_set(str(path), source)
        else:
            yield from read_file(Path(path), source.uri, columns_read(source))


def _made(source: Source) -> Iterator[Mapping[str, str]]:
    count = source.limit or 0
    if source.programs:
        return programs.generate(source.programs, count)
    if source.search:
        return search.generate(source.search, count)
    return running_sums.generate(source.generator, count) if source.generator else iter(())


@contextmanager
def _local(source: Source) -> Iterator[str | Path]:
    """A local file or folder with the rows, or the name of the hub's data set."""
    uri = source.uri
    if uri.startswith("hf://"):
        yield uri.removeprefix("hf://")
    elif uri.startswith("s3:"):
        from fipo.storage import open_store

        folder, _, name = uri.rpartition("/")
        yield Path(_fetched(uri, open_store(folder).stat(name).etag).name) / COPY
    else:
        yield local_path(uri)


@cache
def _fetched(uri: str, etag: str) -> tempfile.TemporaryDirectory[str]:
    """A folder with a copy of an object, for as long as this process lives: what was looked at is not fetched again."""
    from fipo.storage import open_store

    folder, _, name = uri.rpartition("/")
    place = tempfile.TemporaryDirectory(prefix="fipo-source-")
    open_store(folder).download(name, Path(place.name) / COPY)
    return place


def _is_data_set(path: str | Path) -> bool:
    """Whether `datasets` loads it: by its name, or a folder."""
    return isinstance(path, str) or path.is_dir()


def _data_set(name: str, source: Source) -> Iterator[Row]:
    data_set, numbers = _loaded(name, source), count(1)
    # Without any of them each row is one to be set aside.
    columns = present(data_set.column_names, columns_read(source))
    data_set = data_set.select_columns(columns) if columns else data_set

    def read(first: int, start: int, stop: int) -> list[dict[str, Any]]:
        found = data_set[first + start : first + stop]
        return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]

    for first in range(0, len(data_set), BATCH):
        yield from read_in_parts(partial(read, first), min(BATCH, len(data_set) - first), numbers)


def _loaded(name: str, source: Source) -> Dataset:
    with _explained(name, source):
        builder = _builder(name, source)
        if _is_pinned(source) and builder.hash != source.revision and not Path(name).is_dir():
            # Without the hub, `datasets` takes what was loaded last, whatever is asked for, and only logs that it does.
            raise DataError(
                f"data set {name!r}: revision {source.revision} is asked for, the hub cannot be reached, and kept here "
                f"is {builder.hash}; load the revision once while the hub can be reached"
            )
        builder.download_and_prepare()
        return builder.as_dataset(split=source.split)


def _builder(name: str, source: Source) -> DatasetBuilder:
    """What knows the data set's commit, and can load its rows."""
    import datasets

    if not Path(name).is_dir():
        _require_there(name, source)
    return datasets.load_dataset_builder(name, source.subset or None, revision=source.revision or None)


def _require_there(name: str, source: Source) -> None:
    """Raise DataError at once where the hub has no such data set, or cannot be reached and nothing is kept here:
    `datasets` would ask it for half a minute."""
    import datasets
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError

    try:
        HfApi().dataset_info(name, revision=source.revision or None, timeout=10)
    except (HTTPError, OSError, ValueError) as error:
        kept = (
            Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___"),
            Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}",
        )
        if not any(place.is_dir() for place in kept):
            raise DataError(
                f"data set {name!r}: the hub does not give it ({' '.join(str(error).split())}), and no copy is kept (a "
                "private one needs HF_TOKEN; without a way to the hub, load it once where there is one)"
            ) from error


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
            f"{error}. A single file of rows named by its path is read row by row, broken rows set aside"
        ) from error
