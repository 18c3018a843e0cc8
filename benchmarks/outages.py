"""A training loop logs while its MLflow server starts late, is killed, comes back, and freezes.

    python -m benchmarks.outages [--figure docs/images/outages.png] [--json]

The figure shows how many points the loop has logged and how many MLflow has, read from the server's database.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.tracking import Server
from fipo.tracking import Tracker
from fipo.tracking.client import connect

CALLS_PER_SECOND = 10
METRIC = "train/loss"


@dataclass
class Observation:
    """Points over time, and when the server did not answer."""

    seconds: list[float] = field(default_factory=list)
    logged: list[int] = field(default_factory=list)
    in_mlflow: list[int] = field(default_factory=list)
    outages: list[tuple[str, float, float]] = field(default_factory=list)

    def see(self, seconds: float, logged: int, in_mlflow: int | None) -> None:
        """Add a point; None is a database that could not be read just now."""
        self.seconds.append(seconds)
        self.logged.append(logged)
        self.in_mlflow.append(self.in_mlflow[-1] if in_mlflow is None else in_mlflow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, help="write the picture here")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "3"
    with tempfile.TemporaryDirectory() as folder:
        observation, worst = run(Path(folder))
    lost = observation.logged[-1] - observation.in_mlflow[-1]
    print(f"{observation.logged[-1]} points logged, {lost} missing in MLflow at the end, worst call {worst:.1f} ms")
    for name, start, end in observation.outages:
        print(f"  {name}: {end - start:.1f} s")
    if options.figure:
        draw(observation, options.figure)
    if options.json:
        print(json.dumps({"logged": observation.logged[-1], "missing": lost, "worst_call_ms": worst}))


def run(folder: Path) -> tuple[Observation, float]:
    """Play the story; what was seen, and the longest call of `log` in milliseconds."""
    server, observation, stop = Server(folder), Observation(), threading.Event()
    connect(f"sqlite:///{server.database}").search_experiments()  # a server that has been in use: its tables exist
    began, worst, step = time.monotonic(), 0.0, 0

    def outage(name: str, mend: Callable[[], object]) -> None:
        start = time.monotonic() - began
        mend()
        observation.outages.append((name, start, time.monotonic() - began))
        while not tracker.drained:
            time.sleep(0.1)
        time.sleep(6)

    def thaw() -> None:
        time.sleep(10)
        server.signal(signal.SIGCONT)

    def play() -> None:
        outage("not started yet", server.start)
        server.kill()
        outage("killed (SIGKILL)", server.start)
        server.signal(signal.SIGSTOP)
        outage("frozen (SIGSTOP)", thaw)
        stop.set()

    def watch() -> None:
        while not stop.is_set():
            observation.see(time.monotonic() - began, step, _count(server.database))
            time.sleep(0.2)

    with ExitStack() as stack:
        stack.callback(server.kill)
        journal = folder / "journal.jsonl"
        tracker = stack.enter_context(
            Tracker.open(server.uri, experiment="x", run_name="x", run_key="x", journal=journal)
        )
        for work in (play, watch):
            threading.Thread(target=work, daemon=True).start()
        while not stop.is_set():
            started = time.perf_counter()
            tracker.log({METRIC: 0.5}, step)
            worst, step = max(worst, 1000 * (time.perf_counter() - started)), step + 1
            time.sleep(1 / CALLS_PER_SECOND)
        while not tracker.drained:
            time.sleep(0.1)
        observation.see(time.monotonic() - began, step, _count(server.database))
    return observation, worst


def draw(observation: Observation, path: Path) -> None:
    """Two staircases over shaded outages."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for name, start, end in observation.outages:
        axes.axvspan(start, end, color="#d9d9d9", lw=0)
        axes.text((start + end) / 2, observation.logged[-1] * 1.02, name, ha="center", va="bottom", fontsize=9)
    axes.plot(observation.seconds, observation.logged, color="#b45309", lw=2, label="logged (in the journal)")
    axes.plot(observation.seconds, observation.in_mlflow, color="#1d4ed8", lw=2, label="in MLflow")
    axes.set(xlabel="seconds", ylabel="points", xlim=(0, None), ylim=(0, observation.logged[-1] * 1.12))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.92))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _count(database: Path) -> int | None:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0)) as connection:
        try:
            count: int = connection.execute("select count(*) from metrics where key = ?", (METRIC,)).fetchone()[0]
            return count
        except sqlite3.OperationalError:  # locked: the server was frozen in the middle of writing
            return None


if __name__ == "__main__":
    main()
