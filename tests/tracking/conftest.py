"""A database, made once, and a real MLflow server behind a proxy that can fail in every way a network can."""

import selectors
import socket
import socketserver
import threading

import pytest

from fipo.tracking.client import connect
from tests.mlflow_server import Server


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory):
    """SQLite; each test uses its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    connect(f"sqlite:///{folder}/mlflow.db").search_experiments()  # makes the tables, quicker than the server would
    server = Server(folder)
    server.start()
    yield server
    server.kill()


class Proxy(socketserver.ThreadingTCPServer):
    """Stands before a server. `mode`: pass, refuse, hang, error (answers 500) or cut (the request arrives, its answer
    does not)."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.upstream, self.requests = upstream, 0
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self._mode, self._changed = "pass", threading.Event()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        self._changed.set()  # breaks the connections of the old mode
        self._changed = threading.Event()

    def finish_request(self, client, address) -> None:
        mode, changed = self._mode, self._changed
        self.requests += 1
        if mode == "hang":
            changed.wait()
        elif mode == "error":
            client.recv(65536)
            client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops")
        elif mode != "refuse":
            with socket.create_connection(("127.0.0.1", self.upstream)) as upstream:
                self._pump(client, upstream, changed, answer=mode == "pass")

    def _pump(self, client, upstream, changed, *, answer: bool) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, upstream)
            selector.register(upstream, selectors.EVENT_READ, client)
            ends = {end.fileno(): end for end in (client, upstream)}
            while not changed.is_set():
                for key, _ in selector.select(timeout=0.05):
                    data = ends[key.fd].recv(65536)
                    if not data or (key.fd == upstream.fileno() and not answer):
                        return
                    key.data.sendall(data)

    def handle_error(self, request, address) -> None:
        """A connection broke: that is what it is for."""


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    proxy = Proxy(server.port)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield proxy
    proxy.mode = "refuse"
    proxy.shutdown()
    proxy.server_close()
