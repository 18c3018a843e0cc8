"""The thread that carries a journal's records to MLflow, for as long as it takes."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from fipo.errors import TrackingError
from fipo.tracking.client import MlflowRun, RunIdentity
from fipo.tracking.journal import Journal, Record
from fipo.waits import Wait

_IDLE_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 10.0
_PATIENCE_SECONDS = 10.0
_SILENT_SECONDS = 2.0
"""A wait that ends sooner is not announced."""
_VALUES_PER_REQUEST = 1000  # MLflow's limit
_REFUSED = "INVALID_PARAMETER_VALUE"  # a broken database connection may answer BAD_REQUEST: that is tried again

_PAGE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class _StartAgain(Exception):
    """The journal is sent from its beginning."""


class Drain(threading.Thread):
    """Sends what the journal holds, in its order, until told to finish; outages are waited out with growing delays."""

    def __init__(self, journal: Journal, page: Path | None = None) -> None:
        """`page`: a file that changes; the run's parent shows it as it is now, where that can be sent."""
        super().__init__(name="mlflow-drain", daemon=True)
        self._page, self._page_of, self._page_sent = page, 0.0, -math.inf
        self.error: Exception | None = None
        """What the last attempt failed with; None after a success."""
        self.runs: dict[str, MlflowRun] = {}
        """Runs that were found or made in MLflow, by key."""
        self._journal = journal
        self._current: MlflowRun | None = None
        self._patience: Wait | None = None
        self._finish, self._abandon, self._wake = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        """The thread's work."""
        delay = _FIRST_RETRY_SECONDS
        while not self._abandon.is_set():
            try:
                while not self._journal.drained and not self._abandon.is_set():
                    self._send_next()
                    delay, self.error = _FIRST_RETRY_SECONDS, None
                self._renew_page()
            except _StartAgain:
                continue
            except Exception as error:  # whatever the client's libraries raise: it is tried again, and told at the end
                if self.error is None:
                    _log.warning("MLflow does not answer; metrics wait in %s: %s", self._journal.path, error)
                self.error = error
                self._wake.wait(delay)
                delay = min(2 * delay, _LAST_RETRY_SECONDS)
            else:
                if self._finish.is_set():
                    return
                self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()

    def finish(self, timeout_seconds: float) -> None:
        """Send the rest and end, or give up after the timeout."""
        wait = Wait("MLflow to take what is left", timeout_seconds)
        self._finish.set()
        self._wake.set()
        self.join(min(_SILENT_SECONDS, timeout_seconds))
        if self.is_alive():
            _log.warning("%s", wait)
            self.join(wait.left)
        self._abandon.set()
        self._wake.set()

    def run_of(self, key: str) -> MlflowRun | None:
        """The run in MLflow as soon as it has been reached; None if attempts have failed for ten seconds in all."""
        if key not in self.runs and self._patience is None:
            self._patience = Wait("MLflow", _PATIENCE_SECONDS)
        while key not in self.runs and self.is_alive() and not (self.error and self._patience and self._patience.over):
            time.sleep(0.05)
        return self.runs.get(key)

    def _send_next(self) -> None:
        """Send the next record, or as many metrics as one request takes."""
        record, offset = next(self._journal.unsent())
        if record["kind"] == "said":
            pass
        elif record["kind"] == "metrics":
            points, offset = self._next_metrics()
            self._deliver(lambda run: run.metrics(points))
        elif record["kind"] == "run":
            self._enter(record)
        else:
            self._deliver(lambda run: self._apply(run, record))
        self._journal.sent(offset)

    def _next_metrics(self) -> tuple[list[tuple[int, int, dict[str, float]]], int]:
        points: list[tuple[int, int, dict[str, float]]] = []
        values, end = 0, 0
        for record, offset in islice(self._journal.unsent(), _VALUES_PER_REQUEST):
            if record["kind"] == "said":  # is for who reads the journal
                end = offset
                continue
            values += len(record.get("values", ()))
            if record["kind"] != "metrics" or (points and values > _VALUES_PER_REQUEST):
                break
            points.append((record["time"], record["step"], record["values"]))
            end = offset
        return points, end

    def _enter(self, record: Record) -> None:
        run = MlflowRun(RunIdentity.from_record(record))
        run.begin()
        self._current = self.runs[run.identity.key] = run
        if not run.whole and self._journal.begun(run.identity.key):  # deleted since: it gets all of it again
            self._journal.sent(0)
            raise _StartAgain

    def _renew_page(self) -> None:
        """Send the page if it has changed, at most every so often, and not once the end of the step waits."""
        if not (self._page and self._current) or self._finish.is_set() or not self._page.is_file():
            return
        changed, now = self._page.stat().st_mtime, time.monotonic()
        parent = self._current.of_parent()
        if parent and changed != self._page_of and now - self._page_sent > _PAGE_SECONDS:
            parent.artifact(self._page, "")
            self._page_of, self._page_sent = changed, now

    def _deliver(self, send: Callable[[MlflowRun], None]) -> None:
        from mlflow.exceptions import MlflowException

        if self._current is None:  # a journal taken up in the middle
            self._current = MlflowRun(RunIdentity.from_record(self._journal.run_record()))
        try:
            send(self._current)
        except MlflowException as error:
            if error.error_code != _REFUSED:
                raise
            if self._current.deleted:
                raise TrackingError(
                    f"the run {self._current.identity.name} was deleted in MLflow: restore it, and it gets what waits"
                ) from error
            _log.warning("MLflow refuses a record of %s: %s", self._journal.path, error)

    def _apply(self, run: MlflowRun, record: Record) -> None:
        if record.get("to_parent"):
            parent = run.of_parent()
            if parent is None:
                return
            run = parent
        match record["kind"]:
            case "params":
                run.params(record["values"])
            case "tags":
                run.tags(record["values"])
            case "artifact":
                run.artifact(self._journal.files / record["file"], record["folder"])
            case "description":
                run.describe(record["text"])
            case "table":
                run.table(self._journal.files / record["file"], record["folder"])
            case "dataset":
                run.dataset(record["name"], record["digest"], record["uri"], record["context"])
            case "parent":
                run.to_parent(record["values"], record["step"], record["time"])
            case "status":
                run.status(record["status"], record["time"])
