"""Further places for what a step logs, beside MLflow: TensorBoard and W&B, each through its own package.

They follow the same journal, each in its own pace. MLflow stays the record: a place that fails is told of once, by a
warning, and takes up later where it stopped; no step waits for it or fails for it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fipo.errors import ConfigError
from fipo.files import replacing
from fipo.tracking.journal import Record, records_between

_IDLE_SECONDS = 1.0
_log = logging.getLogger(__name__)


def require_installed(name: str) -> None:
    """Let a place pass whose package is here.

    Raises:
        ConfigError: it is not.
    """
    if find_spec(name) is None:
        raise ConfigError(f"tracking.also: {name} is not installed here: pip install 'fipo[{name}]'")


class Sink(Protocol):
    """One place, for one run."""

    def params(self, values: Mapping[str, str]) -> None:
        """Settings."""

    def metrics(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Metrics at a step, logged at this time since 1970."""

    def flush(self) -> None:
        """What was given is safe on disk or on its way."""

    def close(self, status: str) -> None:
        """The run ended as FINISHED, FAILED or KILLED."""


class TensorBoard:
    """`tensorboard --logdir <run.directory>/tensorboard` shows all runs of the folder."""

    def __init__(self, run: Record, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard" / run["experiment"] / run["name"]))

    def params(self, values: Mapping[str, str]) -> None:
        """As a table of text."""
        rows = "".join(f"| {name} | {value.replace('|', '&#124;')} |\n" for name, value in values.items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

    def metrics(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        """One curve each."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=seconds)

    def flush(self) -> None:
        """To the file of events."""
        self._writer.flush()

    def close(self, status: str) -> None:
        """Close the file."""
        self._writer.close()


class Wandb:
    """A run of W&B, continued by its id; `WANDB_MODE=offline` and the key are W&B's own, in the environment."""

    def __init__(self, run: Record, folder: Path) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=run["experiment"].replace("/", "-"),
            name=run["name"],
            id=hashlib.sha256(run["key"].encode()).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            settings=wandb.Settings(console="off", x_disable_stats=True, silent=True),
        )
        self._run.define_metric("*", step_metric="step")

    def params(self, values: Mapping[str, str]) -> None:
        """As the run's config."""
        self._run.config.update(dict(values), allow_val_change=True)

    def metrics(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Over the step, whatever was logged before: some metrics have steps of their own."""
        self._run.log({**values, "step": step, "_timestamp": seconds})

    def flush(self) -> None:
        """W&B's own process has it."""

    def close(self, status: str) -> None:
        """As finished, or as failed."""
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)


SINKS: Mapping[str, type[TensorBoard | Wandb]] = {"tensorboard": TensorBoard, "wandb": Wandb}


class Follower(threading.Thread):
    """Carries a journal's records to one place, from where the last one stopped."""

    def __init__(self, name: str, journal: Path, folder: Path) -> None:
        """
        Args:
            name: one of `SINKS`.
            journal: of the step.
            folder: for what the place keeps on disk.

        Raises:
            ConfigError: its package is not installed.
        """
        require_installed(name)
        super().__init__(name=f"{name}-follower", daemon=True)
        self._place, self._journal, self._folder = name, journal, folder
        self._offset_path = journal.with_suffix(f".{name}.offset")
        self._sink: Sink | None = None
        self._status, self._failed = "FINISHED", False
        self._finish = threading.Event()

    def run(self) -> None:
        """The thread's work."""
        finishing = False
        while not finishing:
            finishing = self._finish.wait(_IDLE_SECONDS)
            try:
                self._send()
                if finishing and self._sink:
                    self._sink.close(self._status)
            except Exception as error:  # whatever its package raises
                if not self._failed:
                    _log.warning("tracking.also: %s does not take what is logged: %s", self._place, error)
                self._failed = True

    def finish(self, timeout_seconds: float) -> None:
        """Send the rest and end, or give up after the timeout."""
        self._finish.set()
        self.join(timeout_seconds)

    def _send(self) -> None:
        offset = int(self._offset_path.read_text()) if self._offset_path.exists() else 0
        end = self._journal.stat().st_size
        if self._sink is None:
            runs = [record for record, _ in records_between(self._journal, 0, end) if record["kind"] == "run"]
            if not runs:
                return
            self._sink = SINKS[self._place](runs[-1], self._folder)
        for record, after in records_between(self._journal, offset, end):
            self._apply(self._sink, record)
            offset = after
        self._sink.flush()
        with replacing(self._offset_path) as unfinished:
            unfinished.write_text(str(offset))

    def _apply(self, sink: Sink, record: Record) -> None:
        match record["kind"]:
            case "params":
                sink.params(record["values"])
            case "metrics":
                sink.metrics(record["values"], record["step"], record["time"] / 1000)
            case "status":
                self._status = record["status"]


def follow(names: Sequence[str], journal: Path, folder: Path) -> list[Follower]:
    """Begin to carry the journal to these places.

    Raises:
        ConfigError: a package is not installed.
    """
    followers = [Follower(name, journal, folder) for name in names]
    for follower in followers:
        follower.start()
    return followers
