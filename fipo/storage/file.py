"""Objects as files under one folder: what runs and tests without an object server use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fipo.errors import ObjectNotFound, StorageError
from fipo.files import own_mark, sweep, sync
from fipo.storage.store import ObjectInfo, OnBytes, check_key

_TEMPORARY = ".tmp-"  # begins the names of unfinished puts, which no listing shows

LINKED_BYTES = 1 << 20
"""A smaller file is copied where a link was allowed: it takes no room, and it is such files that people edit."""


class FileStore:
    """An `ObjectStore` on a POSIX file system that all processes share.

    A file system cannot hold both `a` and `a/b`: the second put raises `StorageError`.
    """

    conditional_put = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = root.as_uri()

    def put(self, key: str, data: bytes | Path, progress: OnBytes | None = None) -> None:
        """See `ObjectStore.put`: written beside its place, flushed to disk, then renamed."""
        path = self._path(key)
        with self._errors("put", key), _durable_copy(data, path.parent) as temporary:
            temporary.replace(path)
            sync(path.parent)
        if progress:
            progress(path.stat().st_size)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `ObjectStore.put_if_absent`: a hard link either takes the name or fails."""
        path = self._path(key)
        with self._errors("put", key), _durable_copy(data, path.parent) as temporary:
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
            sync(path.parent)
            return True

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        with self._errors("get", key):
            return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        with self._errors("get", key), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def download(self, key: str, path: Path, progress: OnBytes | None = None, *, link: bool = False) -> None:
        """See `ObjectStore.download`."""
        with self._errors("get", key):
            source = self._path(key)
            if not (link and source.stat().st_size >= LINKED_BYTES and _linked(source, path)):
                shutil.copyfile(source, path)
        if progress:
            progress(path.stat().st_size)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        with self._errors("list", prefix):
            yield from _walk(self._root, "", prefix)

    def exists(self, key: str) -> bool:
        """See `ObjectStore.exists`."""
        return self._path(key).is_file()

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`: every put makes a new file, so that its inode and time tell two of them apart."""
        with self._errors("look up", key), self._path(key).open("rb") as file:
            found = os.fstat(file.fileno())
        return ObjectInfo(key, found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}")

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`. Folders stay."""
        path = self._path(key)
        with self._errors("delete", key):
            if path.is_file():
                path.unlink(missing_ok=True)
                sync(path.parent)

    def _path(self, key: str) -> Path:
        if any(part.startswith(_TEMPORARY) for part in check_key(key).split("/")):
            raise StorageError(f"object key {key!r}: parts may not start with {_TEMPORARY}")
        return self._root / key

    @contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        where = f"{verb} {self.uri}/{key}"
        try:
            yield
        except FileNotFoundError:
            raise ObjectNotFound(f"{where}: no such object") from None
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise StorageError(f"{where}: one key would be a folder of the other; rename one") from None
        except OSError as error:
            raise StorageError(f"{where}: {error.strerror}") from error


def _linked(source: Path, path: Path) -> bool:
    """Give a file a second name, if the file system can: a put takes an object's name away, and never writes to it."""
    path.unlink(missing_ok=True)
    with suppress(OSError):  # another file system, or one without hard links
        path.hardlink_to(source)
    return path.exists()


@contextmanager
def _durable_copy(data: bytes | Path, folder: Path) -> Iterator[Path]:
    """A flushed temporary file with `data` in `folder`, gone afterwards unless it was renamed."""
    _make(folder)
    sweep(folder, _TEMPORARY)
    descriptor, name = tempfile.mkstemp(prefix=f"{_TEMPORARY}{own_mark()}-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fchmod(file.fileno(), 0o444)  # a link to it is no place to write to either
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    """`mkdir -p` whose new names survive a power failure."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def _walk(folder: Path, base: str, prefix: str) -> Iterator[ObjectInfo]:
    """Objects under `folder`, whose keys begin with `base`, in the order of their keys."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return  # nothing was put yet, or it was deleted while we listed
    # As in S3, "a.txt" comes before "a/b": a folder sorts with its slash.
    for name, entry in sorted((entry.name + "/" * entry.is_dir(), entry) for entry in entries):
        key = base + name
        if name.startswith(_TEMPORARY) or not (key.startswith(prefix) or prefix.startswith(key)):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), key, prefix)
        elif key.startswith(prefix):
            try:
                size = entry.stat().st_size
            except FileNotFoundError:
                continue  # deleted while we listed
            yield ObjectInfo(key, size)
