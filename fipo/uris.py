"""Addresses that a user writes: taken character for character, or refused by name. They hold no credentials.

An address spreads: into settings, logs, MLflow's parameters, pages. What opens a door is told by a variable instead,
and no message of this module repeats it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ENCODED = {"#": "%23", "?": "%3F"}
_INSTEAD = {
    "s3": ": AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "hf": ": HF_TOKEN",
    "http": ": MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "https": ": MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "postgresql": ": PGPASSWORD, or a ~/.pgpass (the user may stand before the @)",
    "mysql": " or a file: ?read_default_file=PATH",
}
"""By scheme, where its credentials are taken from."""
_WITH_PATHS = ("s3", "hf", "file", "sqlite")
"""Schemes whose paths may hold an `@`; elsewhere a password with a slash in it ends there."""
_WITH_NAMES = ("postgresql", "mysql", "mssql", "abfs", "abfss", "wasb", "wasbs")
"""Schemes in which a name alone may stand before the `@`: a user, or Azure's container."""
_SECRET_QUERY = re.compile(
    r"[?&;](?P<name>[^=&;]*(?:passw(?:or)?d|pwd|secret|token|signature|credential|api_?key|access_?key)[^=&;]*)=",
    re.IGNORECASE,
)


def check_address(uri: str, instead: str = "") -> None:
    """Let an address of any kind pass that says the same to whoever reads it, and holds no credentials.

    Args:
        uri: the address.
        instead: whence its credentials come, where the scheme does not say.

    Raises:
        ValueError: it holds credentials, a control character, or blanks around it; the message does not repeat them.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.partition("+")[0].lower()
    instead = instead or f"they are taken from the environment{_INSTEAD.get(scheme, '')}"
    before, at, _ = (rest.partition("/")[0] if scheme in _WITH_PATHS else rest).rpartition("@")
    if at and (":" in before or scheme not in _WITH_NAMES):
        raise ValueError(f"{scheme}://...@...: an address holds no credentials; {instead}")
    if query := _SECRET_QUERY.search(uri):
        raise ValueError(f"{scheme}://...{query['name']}=...: an address holds no credentials; {instead}")
    if not uri.isprintable() or uri != uri.strip():
        raise ValueError(f"{uri!r}: it has a character that cannot be seen, or a blank around it")


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Of `s3://bucket/key`; the key is as written, `#`, `?` and `%20` in it too, for S3 knows no escapes.

    Raises:
        ValueError: it is none, or holds credentials.
    """
    check_address(uri)
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"{uri!r}: expected s3://bucket/prefix")
    if any(character in bucket for character in "#?% "):
        raise ValueError(f"{uri!r}: {bucket!r} cannot be a bucket's name")
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(f"{uri!r}: S3 knows no folders to go up from; write the prefix itself")
    if key and "" in key.removesuffix("/").split("/"):
        raise ValueError(f"{uri!r}: two slashes in a row are another prefix than one; write the prefix without")
    return bucket, key


def local_file(uri: str) -> Path:
    """The path that `file:///folder` means; `%` begins an escape there, as `Path.as_uri` writes them.

    Raises:
        ValueError: it is none, or ends early, or elsewhere, for whoever reads it as a URI.
    """
    check_address(uri)
    scheme, _, rest = uri.partition("://")
    host, _, path = rest.partition("/")
    if scheme != "file" or host not in ("", "localhost") or not path.strip("/"):
        raise ValueError(f"{uri!r}: expected file:///folder")
    for character, escape in _ENCODED.items():
        if character in path:
            raise ValueError(f"{uri!r}: write {character} as {escape} in a file:// URI")
    try:
        found = Path("/" + unquote(path, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError(f"{uri!r}: its escapes are no UTF-8") from None
    if not str(found).isprintable() or ".." in found.parts:
        raise ValueError(f"{uri!r}: it leads to {str(found)!r}; write the folder itself")
    return found


def check_store(uri: str) -> None:
    """Let the address of an object store pass.

    Raises:
        ValueError: it is none.
    """
    check_address(uri)
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
    check_address(uri, "they are taken from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, HF_TOKEN")
    scheme, separator, rest = uri.partition(":")
    if scheme == "s3":
        _, key = bucket_and_key(uri)
        if not key or key.endswith("/"):
            raise ValueError(f"{uri!r}: expected one file of a bucket, s3://bucket/key")
    elif scheme == "file":
        local_file(uri)
    elif scheme == "hf" and separator:
        if not re.fullmatch(r"//[\w.-]+(/[\w.-]+)?", rest, re.ASCII) or ".." in rest:
            raise ValueError(f"{uri!r}: expected hf://organisation/name; a commit is the source's revision")
    elif "://" in uri:
        raise ValueError(f"{uri!r}: expected a path, file:///file, s3://bucket/key or hf://organisation/name")


_TRACKING = re.compile(r"databricks(-uc)?(://.*)?|(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://.+")


def check_tracking(uri: str) -> None:
    """Let the address of an MLflow pass.

    Raises:
        ValueError: it is none, its port is none, or it holds credentials.
    """
    check_address(uri)
    if not _TRACKING.fullmatch(uri):
        raise ValueError(f"{uri!r}: expected http://host:port, or a database such as sqlite:///mlflow.db")
    check_server(uri)


def check_server(uri: str, instead: str = "") -> None:
    """Let the address of a server pass, which is added to: it ends where its path does.

    Args:
        uri: the address.
        instead: whence its credentials come, where it is not MLflow's.

    Raises:
        ValueError: it has no host, its port is none, it holds credentials, or a `?` or `#` that ends it early.
    """
    check_address(uri, instead)
    try:
        host, _ = urlsplit(uri).hostname, urlsplit(uri).port
    except ValueError as error:
        raise ValueError(f"{uri!r}: {error}") from None
    if uri.startswith("http") and not host:
        raise ValueError(f"{uri!r}: it names no host")
    if "#" in uri or ("?" in uri and uri.startswith("http")):
        raise ValueError(f"{uri!r}: an address ends before ? and #")
