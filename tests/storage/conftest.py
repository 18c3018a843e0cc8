"""Real stores to test against: a folder, moto (honours conditions) and rclone (checks secrets, keeps bytes)."""

import uuid
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config

from fipo.storage import open_store
from tests.object_stores import KEYS, serve_moto, serve_rclone
from tests.waiting import free_port


@pytest.fixture(scope="session")
def servers():
    """The helpers above, for tests that start and stop servers themselves."""
    return SimpleNamespace(keys=KEYS, free_port=free_port, make_bucket=make_bucket, serve_rclone=serve_rclone)


@pytest.fixture(scope="session")
def moto():
    with serve_moto() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    port = free_port()
    with serve_rclone(tmp_path_factory.mktemp("rclone"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def aws(monkeypatch):
    """Point the standard AWS environment at `endpoint`."""

    def use(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    return use


def make_bucket() -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    # Not boto3's default session, which keeps the credentials of whichever test came first.
    client = boto3.session.Session().client("s3", config=Config(signature_version="s3v4"))
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["file", "moto", "rclone"])
def store(request, tmp_path, aws):
    if request.param == "file":
        return open_store((tmp_path / "objects").as_uri())
    aws(request.getfixturevalue(request.param))
    return open_store(f"s3://{make_bucket()}/some/prefix")
