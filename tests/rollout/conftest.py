"""Real rollout servers for the tests that have vLLM."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from tests.waiting import free_port


@pytest.fixture(scope="session")
def vllm_servers():
    """`with vllm_servers.running(model, context, count) as urls`: they have started, and end with the block."""
    os.environ["FIPO_ROLLOUT_TOKEN"] = "a secret of these tests"
    return SimpleNamespace(running=running, restart=restart)


def restart(model, context, url):
    """A server at the address of one that ended."""
    process = start_server(model, context, url.rpartition(":")[2])
    wait_until_healthy(url, process)
    return process


@contextlib.contextmanager
def running(model, context, count, processes=None, dtype="float32"):
    """Start `count` servers; `processes` receives them."""
    processes = [] if processes is None else processes
    urls = []
    try:
        for _ in range(count):
            port = free_port()
            processes.append(start_server(model, context, port, dtype))
            urls.append(f"http://127.0.0.1:{port}")
        for url, process in zip(urls, processes):
            wait_until_healthy(url, process)
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(600)


def start_server(model, context, port, dtype="float32"):
    options = ["--context", str(context), "--dtype", dtype, "--transfer", "gloo", "--port", str(port)]
    return subprocess.Popen([sys.executable, "-m", "fipo.rollout.served.server", model, *options])


def wait_until_healthy(url, process, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server at {url} ended with {process.returncode}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{url}/health", timeout=5)
            return
        time.sleep(0.5)
    raise TimeoutError(f"no answer from {url} in {seconds} s")
