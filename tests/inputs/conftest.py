"""Settings to ask about, a count of bytes read, and a hub of its own."""

import hashlib
import json
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fipo.config import load_config
from fipo.inputs import external_inputs

HELD_OUT = {"prompt": "Which question is asked only in the benchmark?", "answer": "1"}


@pytest.fixture
def configure(tmp_path):
    """The demo's recipe on a benchmark file and, unless told otherwise, one training file."""

    def configure(train=None, **overrides):
        benchmark, learned = tmp_path / "held-out.jsonl", tmp_path / "train.jsonl"
        benchmark.write_text(json.dumps(HELD_OUT))
        if train is None and not learned.exists():
            learned.write_text('{"prompt": "1 + 1", "answer": "2"}\n')
        settings = {
            "data.train": train or [{"uri": str(learned)}],
            "data.sft": [],
            "data.benchmarks": {"held-out": {"uri": str(benchmark)}},
            "sft.steps": 0,
        }
        return load_config("demo", [f"{key}={json.dumps(value)}" for key, value in (settings | overrides).items()])

    return configure


@pytest.fixture
def digests(tmp_path):
    """The digests of a step's external inputs, by setting."""

    def digests(config, step):
        found = external_inputs(config, step, cache=tmp_path / "state" / "digests.json")
        return {setting: one.digest for setting, one in found.items()}

    return digests


@pytest.fixture
def bytes_read():
    """Bytes that this process has read since the last call, as the kernel counts them."""
    last = 0

    def bytes_read():
        nonlocal last
        counted = int(*re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text()))
        since, last = counted - last, counted
        return since

    bytes_read()
    return bytes_read


@pytest.fixture
def age():
    """Let a file have been written an hour ago."""

    def age(path):
        os.utime(path, (time.time() - 3600,) * 2)

    return age


class Hub(ThreadingHTTPServer):
    """Two kinds of repositories, of one file set for each commit; `main` moves by assignment."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.main, self.files, self.requests = {}, {}, []

    def commit(self, kind, repository, sha, files):
        """Make `sha` the newest commit of a repository of `models` or `datasets`."""
        self.main[kind, repository] = sha
        self.files[kind, repository, sha] = {name: text.encode() for name, text in files.items()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    server: Hub

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(path)
        known = (
            r"/api/(?P<kind>models|datasets)/(?P<repository>\w+/\w+)(/(?P<verb>revision|tree)/(?P<sha>[^/]+)(?P<rest>.*))?",
            r"/(?P<kind>datasets)/(?P<repository>\w+/\w+)/(?P<verb>resolve)/(?P<sha>[^/]+)/(?P<rest>.*)",
        )
        found = next(filter(None, (re.fullmatch(pattern, path) for pattern in known)), None)
        self._answer(**found.groupdict()) if found else self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_POST = do_GET

    def _answer(self, kind, repository, verb, sha, rest):
        main = self.server.main.get((kind, repository))
        sha = main if sha in (None, "main") else sha
        files = self.server.files.get((kind, repository, sha))
        if main is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif files is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif verb in (None, "revision"):
            self._json({"id": repository, "sha": sha, "siblings": [{"rfilename": name} for name in files]})
        elif verb == "tree" and not rest:
            self._json([{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()])
        elif rest in files:
            self._send(200, files[rest], {"ETag": f'"{_oid(files[rest])}"', "X-Repo-Commit": sha})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})

    def _json(self, tree):
        self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})

    def _send(self, code, body, headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def _oid(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub():
    """What of the Hugging Face hub's HTTP interface loading a data set and looking up a model take."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
