"""Where results and metrics go: can it be reached, and written to?"""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fipo.check.look import Look
from fipo.errors import StorageError
from fipo.findings import Finding
from fipo.rollout.installed import require_engine
from fipo.storage import open_store
from fipo.tracking.also import require_installed
from fipo.uris import local_file

SECONDS = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def store(look: Look) -> Iterator[Finding]:
    """Whether the object store answers, and a local one can be written to."""
    uri, run = look.config.storage_uri, look.config.run.name
    if uri.startswith("file:"):
        _require_writable(local_file(uri))
    there = open_store(uri).exists(f"{run}/config.yaml")
    yield Finding("store", "ok", f"{uri}: {'it holds a run' if there else 'no run as yet'} named {run}")


def engine(look: Look) -> Iterator[Finding]:
    """Whether the rollout engine's package is where it would run; a TrainJob has it in the image of its runtime."""
    name = look.config.rollout.engine
    if not look.config.trainjob.runtime:
        require_engine(name)
    yield Finding("engine", "ok", f"{name}, in the TrainJob's image" if look.config.trainjob.runtime else name)


def also(look: Look) -> Iterator[Finding]:
    """Whether the packages of further places for metrics are here."""
    for name in look.config.tracking.also:
        require_installed(name)
        yield Finding("tracking", "ok", f"{name} besides MLflow")


def mlflow(look: Look) -> Iterator[Finding]:
    """Whether MLflow answers; a run does not wait for it, and sends later what it has kept."""
    uri = look.config.tracking_uri
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite"):
        _require_writable(Path(parts.path[1:] or ".").absolute().parent)
        yield Finding("MLflow", "ok", f"{uri}; `fipo ui` shows it")
        return
    try:
        if parts.scheme in ("http", "https"):
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS):
                pass
        else:
            port = parts.port or PORTS.get(parts.scheme.partition("+")[0], 0)
            with socket.create_connection((parts.hostname or "", port), SECONDS):
                pass
    except (OSError, ValueError) as error:
        yield Finding("MLflow", "warning", f"{uri} does not answer: {error}. Metrics wait on disk until it does")
    else:
        yield Finding("MLflow", "ok", f"{uri} answers")


def _require_writable(folder: Path) -> None:
    """Raise StorageError where a folder can be neither written to nor made."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there.is_dir() else "is no folder"
        raise StorageError(f"{folder}: {there} {what}")
