"""Servers and disks that fail: a clear error, no half objects, and the same call makes good."""

import resource

import boto3
import pytest

from fipo.errors import StorageError
from fipo.storage import download_directory, open_store, upload_directory
from fipo.storage.s3 import S3Store


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/folder",
        "file://host/folder",
        "file:folder",
        "s3://",
        "s3://key:secret@bucket/x",
        "http://x",
        "s3://b/../c",
    ],
)
def test_uris_of_other_kinds_are_refused(uri):
    with pytest.raises(
        StorageError,
        match=r"expected (file:///folder|s3://bucket)|object key|taken from the environment|write the prefix itself",
    ):
        open_store(uri)


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_a_missing_bucket(server, aws, request):
    aws(request.getfixturevalue(server))
    with pytest.raises(StorageError, match="open s3://nowhere/p: there is no bucket 'nowhere'"):
        open_store("s3://nowhere/p")


def test_wrong_and_missing_credentials(moto, rclone, aws, servers, monkeypatch):
    aws(rclone)
    bucket = servers.make_bucket()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # a process reads its credentials once
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"refused \(.*check the AWS credentials"):
        open_store(f"s3://{bucket}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    open_store(f"s3://{servers.make_bucket()}")  # moto takes any secret: it cannot stand in for these tests
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="Unable to locate credentials; check the AWS credentials"):
        open_store(f"s3://{bucket}")


def test_no_server(aws, servers):
    aws(f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(StorageError, match="cannot reach the server"):
        open_store("s3://bucket")


def test_credentials_revoked_between_two_requests(aws, servers, tmp_path):
    port = servers.free_port()
    aws(f"http://127.0.0.1:{port}")
    with servers.serve_rclone(tmp_path, port):
        store = open_store(f"s3://{servers.make_bucket()}")
        store.put("a", b"1")
    with servers.serve_rclone(tmp_path, port, keys=("other", "secret")):
        with pytest.raises(StorageError, match=r"put s3://.*/b: refused \(.*check the AWS credentials"):
            store.put("b", b"2")
        with pytest.raises(StorageError, match="credentials"):
            store.exists("a")
    with servers.serve_rclone(tmp_path, port):
        assert [info.key for info in store.list()] == ["a"]


def test_a_server_killed_in_a_multipart_upload(aws, servers, tmp_path):
    port, local, data = servers.free_port(), tmp_path / "local", tmp_path / "server"
    aws(f"http://127.0.0.1:{port}")
    local.mkdir()
    data.mkdir()
    (local / "1-small").write_bytes(b"x")
    (local / "2-big").write_bytes(bytes(range(256)) * (192 * 1024))  # 48 MiB: three parts
    with servers.serve_rclone(data, port) as process:
        store = open_store(f"s3://{servers.make_bucket()}")
        sent = []

        def kill(amount):
            sent.append(amount)
            if sum(sent) > 8 << 20:
                process.kill()

        with pytest.raises(StorageError, match="2-big: "):
            upload_directory(store, local, "model", kill)
    with servers.serve_rclone(data, port):
        assert [info.key for info in store.list()] == ["model/1-small", "model/MANIFEST.partial.json"]
        resent: list[int] = []
        manifest = upload_directory(store, local, "model", resent.append)
        assert sum(resent) == manifest.size
        assert [info.key for info in store.list()] == ["model/1-small", "model/2-big", "model/MANIFEST.json"]
        assert download_directory(store, "model", tmp_path / "copy") == manifest


def test_parts_of_a_killed_upload_are_dropped(moto, aws, servers, tmp_path):
    aws(moto)
    store = open_store(f"s3://{servers.make_bucket()}")
    assert isinstance(store, S3Store)
    client = store._client
    for key in ["big", "bigger"]:
        client.create_multipart_upload(Bucket=store._bucket, Key=key)
    (tmp_path / "big").write_bytes(bytes(17 << 20))
    store.put("big", tmp_path / "big")
    assert [upload["Key"] for upload in client.list_multipart_uploads(Bucket=store._bucket)["Uploads"]] == ["bigger"]


def test_a_full_disk(tmp_path):
    store = open_store(tmp_path.as_uri())
    store.put("folder/object", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StorageError, match=f"put {store.uri}/folder/object: File too large"):
            store.put("folder/object", bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.get("folder/object") == b"old"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["object"]


def test_a_key_below_an_object_needs_a_server(tmp_path):
    store = open_store(tmp_path.as_uri())
    store.put("a", b"")
    with pytest.raises(StorageError, match="one key would be a folder of the other"):
        store.put("a/b", b"")
    with pytest.raises(StorageError, match=r"parts may not start with \.tmp-"):
        store.put("x/.tmp-1", b"")


def test_an_object_never_shows_half(tmp_path):
    """A reader at any time sees one of the versions whole; unfinished puts of a killed process are not listed."""
    store = open_store(tmp_path.as_uri())
    (tmp_path / ".tmp-left-behind").write_bytes(b"half")
    assert list(store.list()) == []


def test_secrets_stay_out_of_errors(rclone, aws, servers):
    aws(rclone)
    with pytest.raises(StorageError) as caught:
        open_store("s3://nowhere")
    assert servers.keys[1] not in str(caught.value)


@pytest.mark.parametrize(("asked_for", "sent"), [("", False), ("when_supported", True)])
def test_no_checksum_is_sent_that_a_server_might_refuse(moto, aws, servers, tmp_path, monkeypatch, asked_for, sent):
    """Cloud Storage and others refuse bodies with trailers; what is written is verified by its SHA-256 in any case."""
    aws(moto)
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION", raising=False)
    if asked_for:
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", asked_for)
    store = open_store(f"s3://{servers.make_bucket()}")
    assert isinstance(store, S3Store)
    headers: list[str] = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: headers.extend(request.headers))
    (tmp_path / "big").write_bytes(bytes(17 << 20))
    store.put("small", b"bytes")
    store.put("big", tmp_path / "big")
    assert any("checksum" in name.lower() for name in headers) == sent, headers
