"""Objects in S3 and servers that speak its protocol; the only module that imports boto3."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from fipo.errors import ObjectNotFound, StorageError
from fipo.storage.store import ObjectInfo, OnBytes, check_key

_MEBIBYTE = 1 << 20
_TRANSFER = TransferConfig(multipart_threshold=16 * _MEBIBYTE, multipart_chunksize=16 * _MEBIBYTE, max_concurrency=8)
_MISSING = {"404", "NoSuchKey", "NotFound"}
_DENIED = {
    "401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
}  # fmt: skip
_CREDENTIALS = "check the AWS credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the role)"


class S3Store:
    """An `ObjectStore` in one bucket, under one prefix. Opening it makes sure that the bucket can be used."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        with self._errors("open"):
            # A session of its own: the default one keeps the first credentials that a process ever used.
            self._client = boto3.session.Session().client("s3", config=_config())
            self._client.head_bucket(Bucket=bucket)

    def put(self, key: str, data: bytes | Path, progress: OnBytes | None = None) -> None:
        """See `ObjectStore.put`; a large file goes up in parts, eight at a time."""
        full = self._key(key)
        with self._errors("put", key):
            if isinstance(data, bytes):
                self._client.put_object(Bucket=self._bucket, Key=full, Body=data)
            else:
                if data.stat().st_size >= _TRANSFER.multipart_threshold:
                    self._abort_unfinished(full)
                self._client.upload_file(str(data), self._bucket, full, Callback=progress, Config=_TRANSFER)
        if progress and isinstance(data, bytes):
            progress(len(data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `ObjectStore.put_if_absent`. Raises `StorageError` where the server ignores the condition."""
        full = self._key(key)
        if not self.conditional_put:
            raise StorageError(
                f"put {self.uri}/{key}: this server overwrites in spite of `If-None-Match: *`, so that nothing can be "
                "locked or claimed on it; use a server with conditional writes"
            )
        return self._put_if_absent(full, data)

    @cached_property
    def conditional_put(self) -> bool:
        """Whether the server honours `If-None-Match: *`, found by trying it on an object of its own."""
        probe = f"{self._prefix}.probe-{uuid.uuid4().hex}"
        try:
            self._put_if_absent(probe, b"")
            return not self._put_if_absent(probe, b"")
        finally:
            with self._errors("delete"):
                self._client.delete_object(Bucket=self._bucket, Key=probe)

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        full = self._key(key)
        with self._errors("get", key):
            return bytes(self._client.get_object(Bucket=self._bucket, Key=full)["Body"].read())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        full, interval = self._key(key), f"bytes={start}-{start + length - 1}"
        with self._errors("get", key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=full, Range=interval)
            except ClientError as error:
                if _code(error) in ("416", "InvalidRange"):
                    return b""
                raise
            # A range of no bytes is not valid HTTP, and the server answers with the whole object.
            return answer["Body"].read() if length else b""

    def download(self, key: str, path: Path, progress: OnBytes | None = None, *, link: bool = False) -> None:
        """See `ObjectStore.download`; a large object comes down in parts, eight at a time."""
        full = self._key(key)
        with self._errors("get", key):
            self._client.download_file(self._bucket, full, str(path), Callback=progress, Config=_TRANSFER)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`; 1,000 keys a request."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._errors("list", prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield ObjectInfo(entry["Key"][len(self._prefix) :], entry["Size"])

    def exists(self, key: str) -> bool:
        """See `ObjectStore.exists`."""
        full = self._key(key)
        try:
            with self._errors("look up", key):
                self._client.head_object(Bucket=self._bucket, Key=full)
        except ObjectNotFound:
            return False
        return True

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`."""
        full = self._key(key)
        with self._errors("look up", key):
            answer = self._client.head_object(Bucket=self._bucket, Key=full)
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"].strip('"'))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        full = self._key(key)
        with self._errors("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=full)

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _abort_unfinished(self, full: str) -> None:
        """Drop the parts that a killed upload of this key has left behind: they are invisible, but cost money."""
        with suppress(ClientError):  # not every role may list them; a lifecycle rule of the bucket does the same
            pending = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=full).get("Uploads", ())
            for upload in pending:
                if upload["Key"] == full:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=full, UploadId=upload["UploadId"])

    def _put_if_absent(self, full: str, data: bytes) -> bool:
        with self._errors("put", full.removeprefix(self._prefix)):
            try:
                self._client.put_object(Bucket=self._bucket, Key=full, Body=data, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) in ("412", "PreconditionFailed", "409", "ConditionalRequestConflict"):
                    return False
                raise
            return True

    @contextmanager
    def _errors(self, verb: str, key: str = "") -> Iterator[None]:
        where = f"{verb} {self.uri}/{key}".rstrip("/")
        try:
            yield
        except ClientError as error:
            raise self._translate(where, key, error) from error
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise StorageError(f"{where}: {error}; {_CREDENTIALS}") from error
        except (EndpointConnectionError, ConnectionError, HTTPClientError) as error:
            raise StorageError(
                f"{where}: cannot reach the server or it broke off (AWS_ENDPOINT_URL_S3): {error}"
            ) from error
        except ResponseParserError as error:
            raise StorageError(
                f"{where}: that is no answer of S3's. AWS_ENDPOINT_URL_S3 is the address of S3 alone, AWS_ENDPOINT_URL "
                f"that of every service, and a role asks for its keys there: {error}"
            ) from error
        except Boto3Error as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ClientError):
                raise self._translate(where, key, cause) from error
            raise StorageError(f"{where}: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise StorageError(f"{where}: {error}") from error

    def _translate(self, where: str, key: str, error: ClientError) -> StorageError:
        code = _code(error)
        if code == "NoSuchBucket" or (code in _MISSING and not key):
            return StorageError(f"{where}: there is no bucket {self._bucket!r}; create it or correct the URI")
        if code in _MISSING:
            return ObjectNotFound(f"{where}: no such object")
        if code in _DENIED:
            return StorageError(f"{where}: refused ({code}); {_CREDENTIALS} and that they may do this")
        return StorageError(f"{where}: the server answered {code}: {error.response['Error'].get('Message', '')}")


def _config() -> Config:
    return Config(
        signature_version="s3v4",
        # Delays grow, with full jitter. The environment's number wins, as everywhere in the AWS chain.
        retries={"mode": "standard", "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", "6"))},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=16,
        response_checksum_validation="when_required",  # some servers' checksums are not Amazon's
        # And some refuse ours, which go in trailers. Where a bucket asks for them (Object Lock), the environment does.
        request_checksum_calculation=os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
    )


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", "unknown"))
