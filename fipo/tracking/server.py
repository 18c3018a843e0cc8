"""A tracking server on this machine that is watched: when it dies or no longer answers, it is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field

from fipo.errors import TrackingError

HOST = "127.0.0.1"
_START_SECONDS = 120.0
_CHECK_SECONDS = 5.0
_MISSED_CHECKS = 3
_FAILED_STARTS = 3
_STOP_SECONDS = 10.0


@dataclass
class Server:
    """`mlflow server` as a process group of its own."""

    tracking_uri: str
    artifact_root: str
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the process; it answers some seconds later."""
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.tracking_uri]
        command += ["--default-artifact-root", self.artifact_root, "--workers", "1"]
        command += ["--host", HOST, "--port", str(self.port)]
        # Without the job runner MLflow starts in a third of the time; nothing here uses it.
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(command, start_new_session=True, env=environment)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether it is healthy."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=_CHECK_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End all its processes, by force if need be."""
        if self.process is None:
            return
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.process = None


def serve(tracking_uri: str, *, artifact_root: str, port: int) -> None:
    """Serve until interrupted (SIGINT, SIGTERM).

    Raises:
        TrackingError: the port is taken, or the server does not start.
    """
    _check_port(port)
    server = Server(tracking_uri, artifact_root, port)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"MLflow on {tracking_uri}: starting ...  (Ctrl-C ends it)", flush=True)
    failed_starts = 0
    try:
        while failed_starts < _FAILED_STARTS:
            server.start()
            if _becomes_healthy(server):
                failed_starts = 0
                print(f"MLflow is at {server.url}", flush=True)
                print(f"MLflow {_watch(server)}: it is started again", flush=True)
            else:
                failed_starts += 1
            server.stop()
        raise TrackingError(
            f"MLflow on {tracking_uri} did not start in {_FAILED_STARTS} attempts; what it printed says why"
        )
    except KeyboardInterrupt:
        print("MLflow: stopped", flush=True)
    finally:
        server.stop()
        signal.signal(signal.SIGTERM, before)


def _becomes_healthy(server: Server) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while server.alive and time.monotonic() < deadline:
        if server.answers():
            return True
        time.sleep(0.2)
    return False


def _watch(server: Server) -> str:
    """Return, with the reason, when the server is dead or has been silent for some checks."""
    missed = 0
    checked = time.monotonic()
    while missed < _MISSED_CHECKS:
        time.sleep(0.5)
        if not server.alive:
            return "ended unexpectedly"
        if time.monotonic() - checked > _CHECK_SECONDS:
            missed = 0 if server.answers() else missed + 1
            checked = time.monotonic()
    return "does not answer"


def _check_port(port: int) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            raise TrackingError(f"port {port}: {error.strerror}; name another one with --port") from None
