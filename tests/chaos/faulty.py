"""A server that is moody: a proxy before a real one, each of whose answers may be faulty."""

import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

STORE_FAULTS = ("error", "slow", "cut", "reset", "refused", "replaced", "redirect", "moved")
TRACKING_FAULTS = ("error", "slow", "cut", "reset", "refused")
_ANSWERS = {
    "error": "500 Internal Server Error\r\nContent-Length: 4\r\n",
    "redirect": "301 Moved Permanently\r\nLocation: http://127.0.0.1:9{path}\r\nContent-Length: 0\r\n",
    "moved": "307 Temporary Redirect\r\nLocation: http://127.0.0.1:{upstream}{path}\r\nContent-Length: 0\r\n",
    "refused": "",
}
"""In place of the server's own: `redirect` leads to where nobody listens, `moved` to the server itself."""


class Faulty(socketserver.ThreadingTCPServer):
    """Before the server at `upstream`; a share `rate` of the requests has a fault of `faults`."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, upstream: int, faults: tuple[str, ...], rate: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.upstream, self.faults, self.rate = upstream, faults, rate
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.requests = self.met = 0
        """How many there were, and how many of them had a fault."""
        self._strikes: dict[int, Callable[[], None]] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def at(self, request: int, strike: Callable[[], None]) -> None:
        """Call this when so many requests have come."""
        self._strikes[request] = strike

    def close(self) -> None:
        """Take no more connections."""
        self.shutdown()
        self.server_close()

    def finish_request(self, client, address) -> None:
        request = client.recv(65536)
        with self._lock:
            fault = self._random.choice(self.faults) if self._random.random() < self.rate else ""
            self.met += bool(fault)
            self.requests += bool(request)
            strike = self._strikes.pop(self.requests, None)
        if strike:
            strike()
        if fault == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        elif fault in _ANSWERS:
            self._answer(client, request, _ANSWERS[fault])
        elif request:
            self._pass(client, _closing(request), fault)

    def _answer(self, client, request: bytes, answer: str) -> None:
        path = [*request.split(b" ", 2), b"", b""][1].decode("latin-1")
        if answer:
            filled = answer.format(path=path, upstream=self.upstream)
            client.sendall(f"HTTP/1.1 {filled}Connection: close\r\n\r\n{'oops' * (': 4' in answer)}".encode("latin-1"))
        client.shutdown(socket.SHUT_WR)
        client.settimeout(2)
        with suppress(OSError):  # what is left of the request: closed over it, the answer would not arrive
            while client.recv(65536):
                pass

    def _pass(self, client, request: bytes, fault: str) -> None:
        with socket.create_connection(("127.0.0.1", self.upstream)) as upstream:
            upstream.sendall(request)
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


def _closing(request: bytes) -> bytes:
    """The same, as the last of its connection: so that each request is one, and may have a fault."""
    line, _, rest = request.partition(b"\r\n")
    head, end, body = rest.partition(b"\r\n\r\n")
    head = re.sub(rb"(?im)^connection:[^\r]*\r\n", b"", head + b"\r\n")
    return line + b"\r\nConnection: close\r\n" + head.removesuffix(b"\r\n") + end + body


def _shut(end: socket.socket) -> None:
    """Let the other side see the end."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
