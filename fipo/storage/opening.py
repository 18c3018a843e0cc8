"""From a URI to its store; what it does not need is not imported."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fipo.errors import StorageError
from fipo.storage.store import ObjectStore, check_key


def open_store(uri: str) -> ObjectStore:
    """Open `file:///folder` or `s3://bucket/prefix`.

    S3 credentials and endpoint come from the standard AWS chain (environment, config files, instance role;
    `AWS_ENDPOINT_URL` for servers other than Amazon's), never from the URI.

    Raises:
        StorageError: the URI is of another kind, or the bucket is missing, forbidden or out of reach.
    """
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and path.startswith("/"):
        from fipo.storage.file import FileStore

        return FileStore(Path(path))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        from fipo.storage.s3 import S3Store

        prefix = path.strip("/")
        return S3Store(parts.netloc, check_key(prefix) if prefix else "")
    raise StorageError(f"storage URI {uri!r}: expected file:///folder or s3://bucket/prefix")
