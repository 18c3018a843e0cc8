"""What logging costs a training loop: `Tracker.log` against `mlflow.log_metrics`, with the MLflow server up and frozen.

    python -m benchmarks.tracking [--json]

One real `mlflow server` on SQLite. A loop logs 40 metrics every few milliseconds, as a training loop would, only
faster. Then the server is frozen (SIGSTOP) and both log on; the peer's call waits for its time limit, here 30 seconds.
The floor is the same loop writing the same bytes to a plain file: what the machine itself takes at worst.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from fipo.tracking import Tracker
from fipo.tracking.metric_names import METRICS

NAMES = [metric.name for metric in METRICS if metric.name.startswith(("train/", "rollout/")) and "<" not in metric.name]
VALUES = dict.fromkeys(NAMES[:40], 0.125)
PEER_PATIENCE_SECONDS = 30
Log = Callable[[dict[str, float], int], object]
"""Takes values and their step."""


@dataclass(frozen=True)
class Cost:
    """Of one way to log, in one state of the server."""

    calls: int
    median_call_ms: float
    worst_call_ms: float
    points_per_second: float
    """Until the server has the last point; while it is frozen, until the journal has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--calls", type=int, default=1000, help="log calls of ours; the peer makes a tenth")
    options = parser.parse_args()
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(PEER_PATIENCE_SECONDS)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        server, journal = Server(Path(folder)), Path(folder) / "journal.jsonl"
        server.start()
        stack.callback(server.kill)
        floor = measure(plain_file(Path(folder) / "plain.jsonl"), options.calls)
        peer_up = measure(peer(server.uri), options.calls // 10)
        with Tracker.open(server.uri, experiment="ours", run_name="ours", run_key="ours", journal=journal) as tracker:
            assert tracker.run_id
            ours_up = measure(tracker.log, options.calls, until=lambda: wait(tracker))
            server.signal(signal.SIGSTOP)
            ours_down = measure(lambda values, step: tracker.log(values, options.calls + step), options.calls)
            peer_down = measure(lambda values, step: blocked(peer(server.uri), values, step), 1)
            server.signal(signal.SIGCONT)
    rows = {
        "floor": floor,
        "ours, up": ours_up,
        "mlflow, up": peer_up,
        "ours, frozen": ours_down,
        "mlflow, frozen": peer_down,
    }
    print(f"{'':16}{'calls':>8}{'median ms':>12}{'worst ms':>12}{'points/s':>12}")
    for name, cost in rows.items():
        print(
            f"{name:16}{cost.calls:8}{cost.median_call_ms:12.3f}{cost.worst_call_ms:12.1f}{cost.points_per_second:12.0f}"
        )
    if options.json:
        result = {
            "ratio": ours_up.points_per_second / peer_up.points_per_second,
            "worst_call_ms": max(ours_up.worst_call_ms, ours_down.worst_call_ms),
            "floor": asdict(floor),
            "call_ratio": peer_up.median_call_ms / ours_up.median_call_ms,
            "points_per_call": len(VALUES),
            "server_up": {"ours": asdict(ours_up), "mlflow": asdict(peer_up)},
            "server_frozen": {"ours": asdict(ours_down), "mlflow": asdict(peer_down)},
            "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "versions": {"python": platform.python_version(), "mlflow": version("mlflow"), "fipo": version("fipo")},
        }
        print(json.dumps(result))


def measure(log: Log, calls: int, until: Callable[[], None] | None = None) -> Cost:
    """Call `log(values, step)` with short pauses."""
    seconds = []
    began = time.perf_counter()
    for step in range(calls):
        started = time.perf_counter()
        log(VALUES, step)
        seconds.append(time.perf_counter() - started)
        time.sleep(0.002)
    if until:
        until()
    rate = calls * len(VALUES) / (time.perf_counter() - began)
    seconds.sort()
    return Cost(calls, 1000 * seconds[len(seconds) // 2], 1000 * seconds[-1], rate)


def plain_file(path: Path) -> Log:
    """One unbuffered write a call."""
    file = path.open("ab", buffering=0)
    return lambda values, step: file.write(json.dumps({"step": step, "values": values}).encode())


def wait(tracker: Tracker) -> None:
    """Return when all that was logged is in MLflow."""
    while not tracker.drained:
        time.sleep(0.005)


def peer(uri: str) -> Log:
    """`mlflow.log_metrics` as in MLflow's documentation."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    if not mlflow.active_run():
        mlflow.set_experiment("peer")
        mlflow.start_run()
    return lambda values, step: mlflow.log_metrics(values, step=step)


def blocked(log: Log, values: dict[str, float], step: int) -> None:
    """One call to a frozen server: it waits for the request's time limit, and then fails the loop."""
    with contextlib.suppress(Exception):
        log(values, step)


class Server:
    """A tracking server on SQLite."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "mlflow.db"
        self._folder = folder
        self._process: subprocess.Popen[bytes]  # from `start` on
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self._port = sock.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it answers."""
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--default-artifact-root", self._folder.as_uri()]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        while self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return
            time.sleep(0.1)
        raise RuntimeError((self._folder / "server.log").read_text())

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self._process.wait()


if __name__ == "__main__":
    main()
