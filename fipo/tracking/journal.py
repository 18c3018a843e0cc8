"""An append-only file of everything that is to reach MLflow, and how far it has been sent.

One line is one JSON record; most look like `{"kind": "metrics", "time": …, "step": 3, "values": {"train/loss": 0.1}}`.
A record of kind `run` names the MLflow run that the records after it belong to. A process that is killed loses nothing
it had appended: the kernel has the bytes.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fipo.errors import TrackingError
from fipo.files import private_folder, replacing
from fipo.redaction import redact

Record = dict[str, Any]


class Journal:
    """A journal open for appending, by any thread; a call of `append` costs one write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = path.with_suffix(".files")
        """Folder of the artifacts that records refer to."""
        self._offset_path = path.with_suffix(".offset")
        private_folder(path.parent)
        _drop_torn_tail(path)
        if not self._offset_path.exists():
            self.sent(0)  # tells a journal from its copies, also where nothing of it ever arrives
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._end = path.stat().st_size
        self.offset = sent_until(path)
        """Bytes that have reached MLflow."""

    def append(self, record: Record) -> None:
        """Add one record.

        Raises:
            TrackingError: the disk is full or gone; the journal ends with its last whole record.
        """
        text = json.dumps(record, separators=(",", ":"))
        if record["kind"] != "metrics":  # numbers by names that are defined
            text = redact(text)
        line = text.encode() + b"\n"
        with self._lock:
            try:
                if os.write(self._descriptor, line) < len(line):
                    os.ftruncate(self._descriptor, self._end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise TrackingError(f"journal {self.path}: {error.strerror}; mend that and run again") from error
            self._end += len(line)

    @property
    def drained(self) -> bool:
        """Whether everything has been sent."""
        return self.offset >= self._end

    def unsent(self) -> Iterator[tuple[Record, int]]:
        """The records after `offset`, each with the offset behind it."""
        yield from records_between(self.path, self.offset, self._end)

    def run_record(self) -> Record:
        """The newest `run` record before `offset`: the next record belongs to its run."""
        return [record for record, _ in records_between(self.path, 0, self.offset) if record["kind"] == "run"][-1]

    def begun(self, key: str) -> bool:
        """Whether something of the run with this key has been sent before."""
        sent = records_between(self.path, 0, self.offset)
        return any(record["kind"] == "run" and record["key"] == key for record, _ in sent)

    def sent(self, offset: int) -> None:
        """Remember that everything before `offset` is in MLflow; a kill here means a harmless second sending."""
        with replacing(self._offset_path, private=True) as unfinished:
            unfinished.write_text(str(offset))
        self.offset = offset

    def close(self) -> None:
        """Flush to disk and close."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def sent_until(path: Path) -> int:
    """Bytes of a journal that have reached MLflow. A damaged note of that is none: what is sent twice is there once."""
    try:
        offset = min(int(path.with_suffix(".offset").read_text()), path.stat().st_size)
    except (FileNotFoundError, ValueError):
        return 0
    if offset <= 0:
        return 0
    with path.open("rb") as file:
        file.seek(offset - 1)
        return offset if file.read(1) == b"\n" else 0


def read_journal(path: Path) -> list[tuple[int, dict[str, float]]]:
    """The metrics of a journal as `(step, {name: value})`, in the order in which they were logged."""
    return [
        (record["step"], record["values"])
        for record, _ in records_between(path, 0, path.stat().st_size)
        if record["kind"] == "metrics"
    ]


def last_status(path: Path, run_key: str) -> str:
    """How the run of this key ended the last time; empty where it did not, for its process was killed.

    A run that the journal does not know has nothing left to do: `FINISHED`.
    """
    status, current = "FINISHED", None
    for record, _ in records_between(path, 0, path.stat().st_size) if path.exists() else ():
        if record["kind"] == "run":
            current = record["key"]
        if current == run_key:
            status = record.get("status", "")
    return status


def read_said(path: Path) -> list[str]:
    """The lines of a journal that its step told the user, in order."""
    return [record["line"] for record, _ in records_between(path, 0, path.stat().st_size) if record["kind"] == "said"]


def last_steps(path: Path, run_key: str, kind: str = "metrics") -> dict[str, int]:
    """The highest step of each metric that was logged to the run of this key; with `parent`, from it to its parent."""
    steps: dict[str, int] = {}
    current = None
    for record, _ in records_between(path, 0, path.stat().st_size):
        if record["kind"] == "run":
            current = record["key"]
        elif record["kind"] == kind and current == run_key:
            steps.update((name, max(record["step"], steps.get(name, record["step"]))) for name in record["values"])
    return steps


def records_between(path: Path, start: int, end: int) -> Iterator[tuple[Record, int]]:
    """The whole records in these bytes of a journal, each with the offset behind it."""
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (line := file.readline()).endswith(b"\n"):
            start += len(line)
            try:
                record = json.loads(line)
            except ValueError:  # a damaged line is lost, those around it are not
                continue
            yield record, start


def _drop_torn_tail(path: Path) -> None:
    """Cut off what a kill in the middle of a write left behind the last line end."""
    if path.exists() and (size := path.stat().st_size):
        with path.open("rb+") as file:
            file.seek(max(0, size - (1 << 20)))
            tail = file.read()
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
