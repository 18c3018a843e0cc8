"""The local overlay's object store, started by its manifest: rclone itself, with the keys of the secret."""

import contextlib
import os
import signal
import socket
import time
from typing import Any

import pytest

from fipo.errors import StorageError
from fipo.storage import open_store
from tests.k8s.containers import Pod
from tests.k8s.test_manifests import load

IMAGE: dict[str, Any] = {"entrypoint": ("rclone",)}  # of docker.io/rclone/rclone


@pytest.fixture
def serve(tmp_path):
    """`serve(secret)`: the pod, when it listens, or its process when that has ended."""
    started = []

    def serve(secret):
        (manifest,) = [
            item for item in load("local") if item["kind"] == "StatefulSet" and "s3" in str(item["metadata"])
        ]
        keys = {"AWS_ACCESS_KEY_ID": "fipo", "AWS_SECRET_ACCESS_KEY": secret}
        pod = Pod(manifest, tmp_path, {"fipo": keys}, **IMAGE)
        pod.image_environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
        pod.run_init_containers()
        process = pod.start()
        started.append(process)
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", pod.port), timeout=1):
                break
            time.sleep(0.02)
        return pod, process

    yield serve
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def store(monkeypatch):
    """`store(pod, secret)`: the bucket, for who has this secret."""

    def store(pod, secret):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{pod.port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "fipo")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        (settings,) = [item for item in load("local") if item["kind"] == "ConfigMap"]
        monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", settings["data"]["s3_response_checksums"])
        return open_store("s3://fipo")

    return store


@pytest.mark.parametrize("secret", ["5f0c2ab1e9", "a b#c", "$(AWS_ACCESS_KEY_ID)$$(HOME)$x", r"+/=%'\;&"])
def test_it_serves_who_has_the_keys_and_no_one_else(serve, store, secret):
    pod, process = serve(secret)
    assert process.poll() is None, pod.log.read_text()
    mine = store(pod, secret)
    mine.put("folder/object", b"bytes")
    assert mine.get("folder/object") == b"bytes"
    assert (pod.folder / "data" / "fipo" / "folder" / "object").read_bytes() == b"bytes", "in the volume"
    with pytest.raises(StorageError):
        store(pod, secret + "x").get("folder/object")


@pytest.mark.parametrize("secret", ["one,two", 'one"two'])
def test_a_secret_that_it_cannot_take_stops_it(serve, secret):
    """It must not serve anybody then."""
    pod, process = serve(secret)
    assert process.wait(600) != 0
    assert "auth" in pod.log.read_text()
