"""The one interface to object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fipo.errors import StorageError

OnBytes = Callable[[int], None]
"""Called with the number of bytes moved since its last call, perhaps from another thread."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object, as a listing or `ObjectStore.stat` shows it."""

    key: str
    """Relative to the store's URI."""
    size: int
    """Bytes."""
    etag: str = ""
    """Differs whenever the contents do; empty in a listing."""


class ObjectStore(Protocol):
    """Keys to bytes. Safe to use from several threads.

    A key is a relative POSIX path (`runs/demo/model/config.json`); `check_key` says which are refused. A put is atomic:
    a reader sees the old object or the new one, never a part. Every failure raises `StorageError` with what was asked
    of which object; a missing object is its subclass `ObjectNotFound`.
    """

    uri: str
    """Where the keys begin, without a slash at the end."""

    @property
    def conditional_put(self) -> bool:
        """Whether `put_if_absent` can be relied on; asking tries it once, and needs the right to write."""
        ...

    def put(self, key: str, data: bytes | Path, progress: OnBytes | None = None) -> None:
        """Store bytes, or the contents of a file, and return when they are durable; replaces what was there."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store bytes unless the key exists; False if it does. Of concurrent callers exactly one gets True."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The object's bytes `[start, start + length)`, clipped to its end as in a Python slice."""
        ...

    def download(self, key: str, path: Path, progress: OnBytes | None = None, *, link: bool = False) -> None:
        """Write the object to `path`, replacing it; use it for what may not fit into memory.

        `link`: who asks only reads it, so a large one may be the object itself under another name, where a store can do
        that; it is read-only then.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix` (any string), ascending by key, in constant memory."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Size and ETag of the object, without its contents."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""
        ...


def check_key(key: str) -> str:
    """Return `key` if it is a plain relative POSIX path of at most 1,024 bytes.

    Raises:
        StorageError: it is empty or absolute, or has an empty, `.` or `..` part, a backslash or a control character.
    """
    parts = key.split("/")
    plain = not any(part in ("", ".", "..") for part in parts) and key.isprintable() and "\\" not in key
    if not plain or len(key.encode("utf-8", "surrogatepass")) > 1024:
        raise StorageError(f"object key {key!r}: expected a relative path such as runs/demo/model.safetensors")
    return key
