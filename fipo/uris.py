"""URIs of files and objects, taken as they are written: a character that would lead elsewhere is refused by name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

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
