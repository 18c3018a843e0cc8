"""A small Kubeflow Pipelines API server that the real client talks to."""

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


class PipelinesServer:
    """The part of the v2beta1 API that fipo uses, with its state in memory."""

    def __init__(self):
        self.pipelines, self.versions, self.experiments, self.runs, self.recurring = [], [], [], [], []
        self.tokens, self.faults, self.uploads = set(), [], []
        self.multi_user = False
        self.refused_upload = 0
        self.on_upload = lambda: None
        """Called before the first upload is looked at."""
        self._ids = (f"id-{number}" for number in itertools.count())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, url, body):
        path, query = urlsplit(url).path, {key: value[0] for key, value in parse_qs(urlsplit(url).query).items()}
        parts = path.removeprefix("/apis/v2beta1/").split("/")
        match (method, parts):
            case ("POST", ["pipelines", "upload"]):
                home = {"namespace": query.get("namespace", "")}
                self._look_at_upload(body, self.pipelines, display_name=query["name"], **home)
                named = {"display_name": query["name"], "description": query.get("description", "")}
                pipeline = self._add(self.pipelines, "pipeline_id", **named, **home)
                self._add(self.versions, "pipeline_version_id", **pipeline)  # as the server does
                return pipeline
            case ("POST", ["pipelines", "upload_version"]):
                named = {"display_name": query["name"], "pipeline_id": query["pipelineid"]}
                self._look_at_upload(body, self.versions, **named)
                described = {"description": query.get("description", "")}
                return self._add(self.versions, "pipeline_version_id", **named, **described)
            case ("GET", ["pipelines"]):
                # As the real server: who names no namespace sees the shared ones alone.
                mine = [item for item in self.pipelines if item["namespace"] == query.get("namespace", "")]
                return {"pipelines": self._filtered(mine, query)}
            case ("GET", ["pipelines", pipeline_id, "versions"]):
                return {"pipeline_versions": [item for item in self.versions if item["pipeline_id"] == pipeline_id]}
            case ("DELETE", ["pipelines", pipeline_id, "versions", version_id]):
                (version,) = [item for item in self.versions if item["pipeline_version_id"] == version_id]
                assert version["pipeline_id"] == pipeline_id
                self.versions.remove(version)
                return {}
            case ("GET", ["experiments"]):
                return {"experiments": self._filtered(self.experiments, query)}
            case ("POST", ["experiments"]):
                return self._add(self.experiments, "experiment_id", **json.loads(body))
            case ("POST", ["runs"]):
                created = {"created_at": "2026-11-23T12:00:00Z", "state": "PENDING"}
                return self._add(self.runs, "run_id", **{**json.loads(body), **created})
            case ("GET", ["runs"]):
                return {"runs": self.runs}
            case ("GET", ["recurringruns"]):
                return self._page(self.recurring, query)
            case ("POST", ["recurringruns"]):
                run = {**json.loads(body), "status": "ENABLED"}
                return self._add(self.recurring, "recurring_run_id", **run)
            case ("POST", ["recurringruns", action]) if action.endswith(":disable"):
                (run,) = [item for item in self.recurring if item["recurring_run_id"] == action.split(":")[0]]
                run["status"] = "DISABLED"
                return {}
        raise LookupError(f"{method} {url}")

    def _look_at_upload(self, body, table, **unique):
        hook, self.on_upload = self.on_upload, lambda: None
        hook()
        if any(unique.items() <= item.items() for item in table):
            raise FileExistsError(unique["display_name"])
        self.uploads.append(body)

    def _add(self, table, key, **fields):
        table.append({**fields, key: next(self._ids)})
        return table[-1]

    @staticmethod
    def _filtered(items, query):
        predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
        wanted = {entry["key"]: entry.get("stringValue") or entry.get("string_value") for entry in predicates}
        return [item for item in items if all(item.get(key, value) == value for key, value in wanted.items())]

    @staticmethod
    def _page(items, query, size=2):
        start = int(query.get("page_token") or 0)
        following = str(start + size) if start + size < len(items) else ""
        return {"recurringRuns": items[start : start + size], "next_page_token": following}

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def respond(self):
                answer: dict[str, Any]
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.tokens.add(self.headers.get("Authorization"))
                if self.path.endswith("/healthz"):  # the client asks this first, and for half a minute if it must
                    status, answer = 200, {"multi_user": server.multi_user}
                elif server.faults:
                    status, answer = server.faults.pop(0), {"message": "scripted"}
                elif server.refused_upload and "/upload" in self.path:  # the real server words these otherwise
                    status = server.refused_upload
                    answer = {"error_message": "scripted", "error_details": "scripted, at length"}
                else:
                    try:
                        status, answer = 200, server.answer(self.command, self.path, body)
                    except FileExistsError as taken:
                        status, answer = 409, {"message": f"{taken} already exists"}
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = respond

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def kubeflow(monkeypatch, tmp_path):
    server = PipelinesServer()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    yield server
    server.close()
