"""URIs of files and objects, taken as they are written: a character that would lead elsewhere is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ENCODED = {"#": "%23", "?": "%3F"}


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Of `s3://bucket/key`; the key is as written, `#`, `?` and `%20` in it too, for S3 knows no escapes.

    Raises:
        ValueError: it is none, or holds credentials.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"{uri!r}: expected s3://bucket/prefix")
    if "@" in bucket:
        raise ValueError("s3://...@...: credentials are taken from the environment, AWS_ACCESS_KEY_ID and so on")
    if any(character in bucket for character in "#?%"):
        raise ValueError(f"{uri!r}: {bucket!r} cannot be a bucket's name")
    return bucket, key


def local_file(uri: str) -> Path:
    """The path that `file:///folder` means; `%` begins an escape there, as `Path.as_uri` writes them.

    Raises:
        ValueError: it is none, or ends early for whoever reads it as a URI.
    """
    scheme, _, rest = uri.partition("://")
    host, _, path = rest.partition("/")
    if scheme != "file" or host not in ("", "localhost"):
        raise ValueError(f"{uri!r}: expected file:///folder")
    for character, escape in _ENCODED.items():
        if character in path:
            raise ValueError(f"{uri!r}: write {character} as {escape} in a file:// URI")
    return Path("/" + unquote(path))


def check_store(uri: str) -> None:
    """Let the address of an object store pass.

    Raises:
        ValueError: it is none.
    """
    if uri.startswith("s3:"):
        bucket_and_key(uri)
    elif uri.startswith("file:"):
        local_file(uri)
    else:
        raise ValueError(f"{uri!r}: expected file:///folder or s3://bucket/prefix")


def check_rows(uri: str) -> None:
    """Let the address of a data set pass: what is no path must be of a kind that is read.

    Raises:
        ValueError: it is of none.
    """
    scheme, separator, rest = uri.partition(":")
    if uri.startswith(("s3:", "file:")):
        check_store(uri)
    elif scheme == "hf" and separator:
        if not rest.strip("/"):
            raise ValueError(f"{uri!r}: expected hf://organisation/name")
    elif "://" in uri:
        raise ValueError(f"{uri!r}: expected a path, file:///file, s3://bucket/key or hf://organisation/name")


_TRACKING = re.compile(r"databricks(-uc)?(://.*)?|(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://.+")


def check_tracking(uri: str) -> None:
    """Let the address of an MLflow pass.

    Raises:
        ValueError: it is none, or its port is none.
    """
    if not _TRACKING.fullmatch(uri):
        raise ValueError(f"{uri!r}: expected http://host:port, or a database such as sqlite:///mlflow.db")
    check_port(uri)


def check_port(uri: str) -> None:
    """Let an address with a port that can be one pass, or with none.

    Raises:
        ValueError: it has no host, or its port is none.
    """
    try:
        host, _ = urlsplit(uri).hostname, urlsplit(uri).port
    except ValueError as error:
        raise ValueError(f"{uri!r}: {error}") from None
    if uri.startswith("http") and not host:
        raise ValueError(f"{uri!r}: it names no host")
