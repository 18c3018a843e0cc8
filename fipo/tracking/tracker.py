"""What a step logs to: `with Tracker.open(…) as tracker: tracker.log({"train/loss": 0.1}, step=3)`."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from fipo.errors import Interrupted, TrackingError
from fipo.redaction import redact
from fipo.tracking.also import follow
from fipo.tracking.client import RunIdentity, load, page_of, readable
from fipo.tracking.drain import Drain
from fipo.tracking.journal import Journal, last_steps
from fipo.tracking.metric_names import check
from fipo.tracking.system import SystemMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


class Tracker:
    """One MLflow run, fed through a journal: no call waits for MLflow, and nothing is lost while it is away.

    Everything logged is appended to the journal, and a thread carries it to MLflow. What is not there when the step
    ends stays in the journal: running the step again, or `replay`, sends it. Leaving the `with` block closes the run
    truthfully: FINISHED, FAILED on an exception, KILLED when interrupted (SIGINT, or SIGTERM where nobody else handles
    it).
    """

    def __init__(
        self,
        identity: RunIdentity,
        journal: Path,
        close_timeout_seconds: float,
        public_uri: str = "",
        page: Path | None = None,
        also: Sequence[str] = (),
        also_folder: Path = Path(),
    ) -> None:
        self._key, self._public_uri = identity.key, public_uri or identity.tracking_uri
        self._journal = Journal(journal)
        self._logged_before = last_steps(journal, identity.key)
        self._told_before = last_steps(journal, identity.key, "parent")
        self._samples = self._logged_before.get("system/cpu_utilization_percentage", -1)
        self._journal.append(identity.to_record())
        self._close_timeout_seconds = close_timeout_seconds
        load()  # here, not in a thread, where it would race with the step's own imports
        # While the other threads work, a call of `log` waits for the interpreter this long, instead of 5 ms.
        sys.setswitchinterval(0.0005)
        self._drain, self._system = Drain(self._journal, page), SystemMetrics(self._log_sample)
        self._drain.start()
        self._system.start()
        self._also = follow(also, journal, also_folder)

    @classmethod
    def open(
        cls,
        tracking_uri: str,
        *,
        experiment: str,
        run_name: str,
        run_key: str,
        journal: Path,
        parent: RunIdentity | None = None,
        artifact_root: str = "",
        close_timeout_seconds: float = 30.0,
        public_uri: str = "",
        page: Path | None = None,
        also: Sequence[str] = (),
        also_folder: Path = Path(),
    ) -> Self:
        """Start to log to the run with this key, which is continued if it exists.

        Args:
            tracking_uri: a database or a server; it need not be up.
            experiment: shared by the runs that shall overlay, such as `fipo/rl`.
            run_name: for people, such as `demo-rl`.
            run_key: unique; equal keys mean the same run.
            journal: file of what was logged; kept between attempts.
            parent: the pipeline's run, from `parent_run`.
            artifact_root: object-store URI for the artifacts of a new experiment.
            close_timeout_seconds: how long the end of the step waits for MLflow at most.
            public_uri: the server's address for people's browsers; empty where it is `tracking_uri`.
            page: a file that changes, shown by the parent.
            also: further places for metrics and settings, by their names in `fipo.tracking.also.SINKS`.
            also_folder: for what they keep on disk.

        Raises:
            ConfigError: the package of such a place is not installed.
        """
        identity = RunIdentity(tracking_uri, experiment, run_name, run_key, artifact_root, parent)
        return cls(identity, journal, close_timeout_seconds, public_uri, page, also, also_folder)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at a step.

        After a restart from a checkpoint some steps are run again; what a metric already has of an earlier attempt is
        kept, and not logged twice.

        Raises:
            ValueError: a name is not defined in `fipo.tracking.metric_names`.
            TrackingError: the journal's disk is full.
        """
        for name in metrics:
            check(name)
        before = self._logged_before
        if new := {name: float(value) for name, value in metrics.items() if step > before.get(name, step - 1)}:
            self._append("metrics", step=step, values=new)

    def log_final(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log scores to this run and to its parent, where the runs of the pipeline are compared; to each once."""
        self.log(metrics, step)
        before = self._told_before
        if new := {name: float(value) for name, value in metrics.items() if step > before.get(name, step - 1)}:
            self._append("parent", step=step, values=new)

    def params(self, params: Mapping[str, object]) -> None:
        """Log settings, to the parent too."""
        values = {name: readable(value) for name, value in params.items()}
        self._append("params", values=values)
        self._append("params", values=values, to_parent=True)

    def describe(self, text: str, *, to_parent: bool = False) -> None:
        """Set the run's description, in Markdown, or its parent's."""
        self._append("description", text=text, to_parent=to_parent)

    def say(self, line: str) -> None:
        """Keep what the user was told beside the metrics; MLflow is not told."""
        self._append("said", line=line)

    def tags(self, tags: Mapping[str, str], *, to_parent: bool = False) -> None:
        """Set tags on the run, or on its parent."""
        self._append("tags", values=dict(tags), to_parent=to_parent)

    def artifact(self, path: Path, folder: str = "", *, to_parent: bool = False) -> None:
        """Keep a copy of a file, or of a folder's contents, under `folder` of the run's artifacts or its parent's."""
        with self._staged(f"{folder}/{path.name}") as staged:
            if path.is_dir():
                shutil.copytree(path, staged, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, staged)
        self._append("artifact", file=f"{folder}/{path.name}".lstrip("/"), folder=folder, to_parent=to_parent)

    def figure(self, figure: Figure, path: str) -> None:
        """Keep a matplotlib figure as an image, such as `figures/reward.png`."""
        with self._staged(path) as staged:
            figure.savefig(staged, dpi=150, bbox_inches="tight")
        self._append("artifact", file=path, folder=path.rpartition("/")[0])

    def table(self, rows: Sequence[Mapping[str, Any]], path: str) -> None:
        """Keep rows with the same columns as a table that MLflow's UI shows, such as `samples.json`."""
        columns = list(rows[0]) if rows else []
        data = [[row[column] for column in columns] for row in rows]
        with self._staged(path) as staged:
            text = json.dumps({"columns": columns, "data": data}, ensure_ascii=False)
            staged.write_text(redact(text), encoding="utf-8")
        self._append("table", file=path, folder=path.rpartition("/")[0])

    def dataset(self, name: str, digest: str, uri: str, context: str = "training") -> None:
        """Record which data, by name, SHA-256 and place, the step used and what for."""
        self._append("dataset", name=name, digest=digest, uri=uri, context=context)

    @property
    def run_id(self) -> str:
        """Id in MLflow; empty if MLflow cannot be reached."""
        run = self._drain.run_of(self._key)
        return run.id if run else ""

    @property
    def parent_run_id(self) -> str:
        """Id of the pipeline's run; empty without one, or if MLflow cannot be reached."""
        run = self._drain.run_of(self._key)
        return run.parent_id if run else ""

    @property
    def pipeline_run(self) -> str:
        """Id of Kubeflow's run, where `link_pipeline_run` has noted one; empty if MLflow cannot be reached."""
        run = self._drain.run_of(self._key)
        return run.pipeline_run if run else ""

    @property
    def url(self) -> str:
        """Page of the run for a browser; empty for a database, or if MLflow cannot be reached."""
        run = self._drain.run_of(self._key)
        return page_of(self._public_uri, run.experiment_id, run.id) if run else ""

    @property
    def drained(self) -> bool:
        """Whether MLflow has everything that was logged so far."""
        return self._journal.drained

    def close(self, status: str) -> bool:
        """End the run as FINISHED, FAILED or KILLED; whether all of it is in MLflow now."""
        self._system.stop()
        try:
            self.artifact(self._journal.path)
            self._append("status", status=status)
        finally:
            self._drain.finish(self._close_timeout_seconds)
            for follower in self._also:
                follower.finish(self._close_timeout_seconds)
            self._journal.close()
        if not self.drained:
            _log.warning(
                "MLflow has only part of this run (%s). The rest waits in %s: run the step again, or call "
                "fipo.tracking.replay on that file.",
                self._drain.error,
                self._journal.path,
            )
        return self.drained

    def __enter__(self) -> Self:
        self._handles_sigterm = (
            threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        )
        if self._handles_sigterm:
            signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handles_sigterm and signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.close(_status(error))

    def _log_sample(self, metrics: Mapping[str, float]) -> None:
        self._samples += 1
        self.log(metrics, self._samples)

    def _append(self, kind: str, **fields: object) -> None:
        self._journal.append({"kind": kind, "time": int(time.time() * 1000), **fields})

    @contextmanager
    def _staged(self, path: str) -> Iterator[Path]:
        """Where a copy of an artifact waits for MLflow."""
        staged = self._journal.files / path.lstrip("/")
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            yield staged
        except OSError as error:
            raise TrackingError(f"artifact {path}: cannot be kept for MLflow: {error}") from error


def _status(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    return "KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"asked to stop by {signal.Signals(number).name}")
