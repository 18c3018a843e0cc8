"""A server that is moody: a proxy before a real one, each of whose connections may be faulty."""

import random
import socket
import socketserver
import threading
import time
from contextlib import suppress

FAULTS = ("error", "slow", "cut", "replaced", "redirect", "refused")
_ANSWERS = {
    "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops",
    "redirect": b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",  # noqa: E501
    "refused": b"",
}


class Faulty(socketserver.ThreadingTCPServer):
    """Before the server at `upstream`; a share `rate` of its connections has a fault of `faults`."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, upstream: int, faults: tuple[str, ...], rate: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.upstream, self.faults, self.rate = upstream, faults, rate
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.met = 0
        """Connections that had a fault."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def finish_request(self, client, address) -> None:
        with self._lock:
            fault = self._random.choice(self.faults) if self._random.random() < self.rate else ""
            self.met += bool(fault)
        if fault in _ANSWERS:
            client.recv(65536)
            client.sendall(_ANSWERS[fault])
            return
        with socket.create_connection(("127.0.0.1", self.upstream)) as upstream:
            back = threading.Thread(target=self._pump, args=(upstream, client, fault), daemon=True)
            back.start()
            self._pump(client, upstream, "")
            back.join(10)

    def _pump(self, source, sink, fault: str) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                if fault == "slow":
                    time.sleep(0.3)
                if fault == "cut" and passed + len(data) > 300:
                    sink.sendall(data[: max(0, 300 - passed)])
                    break
                if fault == "replaced" and b"\r\n\r\n" in data:
                    head, _, body = data.partition(b"\r\n\r\n")
                    data = head + b"\r\n\r\n" + bytes(byte ^ 1 for byte in body)
                sink.sendall(data)
                passed += len(data)
        for end in (source, sink):
            _shut(end)

    def handle_error(self, request, address) -> None:
        """A connection broke: that is what it is for."""


def _shut(end: socket.socket) -> None:
    """Let the other side see the end."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
