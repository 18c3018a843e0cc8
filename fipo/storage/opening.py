"""From a URI to its store; what it does not need is not imported."""

from __future__ import annotations

from fipo.errors import StorageError
from fipo.storage.store import ObjectStore, check_key
from fipo.uris import bucket_and_key, check_store, local_file


def open_store(uri: str) -> ObjectStore:
    """Open `file:///folder` or `s3://bucket/prefix`.

    S3 credentials and endpoint come from the standard AWS chain (environment, config files, instance role;
    `AWS_ENDPOINT_URL_S3` for servers other than Amazon's), never from the URI. What it names is taken as written: see
    `fipo.uris`.

    Raises:
        StorageError: the URI is of another kind, or the bucket is missing, forbidden or out of reach.
    """
    try:
        check_store(uri)
        if uri.startswith("file:"):
            from fipo.storage.file import FileStore

            return FileStore(local_file(uri))
        bucket, key = bucket_and_key(uri)
    except ValueError as error:
        raise StorageError(f"storage URI {error}") from None
    from fipo.storage.s3 import S3Store

    return S3Store(bucket, check_key(prefix) if (prefix := key.removesuffix("/")) else "")
