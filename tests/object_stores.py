"""Object stores to test against: moto honours conditions, rclone checks secrets and keeps bytes."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import free_port, listens, wait_until

BIN = Path(sys.executable).parent
KEYS = ("access", "secret-of-the-test")


@contextlib.contextmanager
def serving(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens; it is killed at the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port))
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serve_moto() -> Iterator[int]:
    """The port of an empty one."""
    port = free_port()
    with serving([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port):
        yield port


@contextlib.contextmanager
def serve_rclone(folder: Path, port: int, keys: tuple[str, str] = KEYS) -> Iterator[subprocess.Popen[bytes]]:
    """The folders of `folder` as buckets."""
    command = [str(BIN / "rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    with serving([*command, "--auth-key", ",".join(keys), "--config", os.devnull], port) as process:
        yield process
