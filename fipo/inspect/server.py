"""Serves the pages to the browsers of this machine, until Ctrl-C."""

from __future__ import annotations

import socket
from pathlib import Path

from fipo.errors import ConfigError, DataError
from fipo.inspect.pages import Pages
from fipo.run.found import find_run
from fipo.run.rollouts import Rollouts
from fipo.storage import open_store

HOST = "127.0.0.1"


def serve(reference: str, overrides: list[str], port: int) -> None:
    """Show the responses of a run, or of a folder with records that were copied out of a store.

    Args:
        reference: what `find_run` takes, or a folder with `step-*.parquet`.
        overrides: see `find_run`.
        port: of 127.0.0.1; 0 takes a free one.

    Raises:
        ConfigError: there is no such run, or the port is taken.
        StorageError: its store cannot be read.
    """
    import uvicorn

    app = open_pages(reference, overrides).app()
    listening = listen(port)
    print(f"responses of {reference}: http://{HOST}:{listening.getsockname()[1]}/ (Ctrl-C ends)", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, lifespan="off"))
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # which is how it ends
        print("stopped", flush=True)


def open_pages(reference: str, overrides: list[str]) -> Pages:
    """The pages of a run or of a folder with records."""
    folder = Path(reference)
    if "://" not in reference and any(folder.glob("step-*.parquet")):
        return Pages(Rollouts(open_store(folder.absolute().as_uri()), ""), folder.absolute().name, "")
    found = find_run(reference, overrides)
    try:
        newest, _ = found.recorded.trained_steps()
    except DataError:  # it has only begun
        newest = ""
    return Pages(found.run.rollout_records(), found.run.name, newest)


def listen(port: int) -> socket.socket:
    """A socket of this machine alone.

    Raises:
        ConfigError: the port is taken, or nobody may listen there.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigError(f"port {port}: {error.strerror}; name another one with --port") from None
