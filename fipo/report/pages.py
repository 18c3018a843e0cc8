"""The reports of all runs in a folder over HTTP, as they grow: what `fipo ui` serves beside MLflow."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jinja2 import Environment

from fipo.report import wording
from fipo.report.live import REPORT
from fipo.run.stages import WHOLE, read_pace, read_stages

HOST = "127.0.0.1"
NAMES = {HOST, "localhost"}
"""What a browser of this machine calls it: a page from elsewhere that had its name point here is refused."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
INDEX = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10"><title>Runs</title>
<style>
  body { max-width: 860px; margin: 40px auto; padding: 0 18px; font: 15px/1.5 system-ui, sans-serif; color: #0f172a;
         background: #f6f7f9; }
  h1 { font-size: 26px; letter-spacing: -0.018em; }
  a.run { display: block; background: #fff; border: 1px solid #e2e8f0; border-radius: 12px; padding: 14px 18px;
          margin: 12px 0; color: inherit; text-decoration: none; }
  a.run:hover { border-color: #4f46e5; } b { color: #4f46e5; } span { color: #64748b; display: block; font-size: 14px; }
</style></head>
<body><h1>Runs in {{ folder }}</h1>
{% for run in runs %}
<a class="run" href="/{{ run.name }}"><b>{{ run.name }}</b><span>{{ run.state }}, {{ run.age }} ago</span></a>
{% else %}<p>None has begun here yet: <code>fipo run</code>.</p>
{% endfor %}</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run that has a report."""

    name: str
    state: str
    """What it does, or how it ended."""
    age: str
    """Since its report was written."""


def serve_reports(folder: Path, port: int) -> str:
    """Serve them on this machine, in the background, until the process ends; at another port where this is taken.

    Returns:
        Address of the list of runs.
    """

    class Handler(_Handler):
        runs = folder

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError):  # taken, or after the last port
        server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, name="reports", daemon=True).start()
    return f"http://{HOST}:{server.server_address[1]}"


def listed(folder: Path) -> list[Listed]:
    """The runs of a folder that have a report, the newest first."""
    pages = sorted(folder.glob(f"*/{REPORT}"), key=lambda page: -page.stat().st_mtime)
    return [
        Listed(page.parent.name, _state(page.parent), wording.duration(max(0.0, time.time() - page.stat().st_mtime)))
        for page in pages
    ]


def _state(run: Path) -> str:
    *_, (step, stage) = [("", None), *read_stages(run).items()]
    if stage is None:
        return "its report"
    if stage.lost:
        return f"{step}: its process is gone; run the same command again to continue"
    if stage.state != "running":
        return "finished" if (step, stage.state) == ("report", "done") else f"{step} {stage.state}"
    pace = read_pace(Path(stage.folder)).get(WHOLE)
    return f"{step}: step {pace.done:,} of {pace.total:,}" if pace else f"{step} at work"


class _Handler(BaseHTTPRequestHandler):
    runs: Path

    def do_GET(self) -> None:
        """The list, or one report by the name of its run."""
        name = self.path.partition("?")[0].strip("/")
        if self.headers.get("Host", "").rpartition(":")[0] not in NAMES:
            self.send_error(HTTPStatus.FORBIDDEN)
        elif not name:
            page = Environment(autoescape=True).from_string(INDEX)
            self._answer(page.render(folder=self.runs, runs=listed(self.runs)).encode())
        elif name in {run.name for run in listed(self.runs)}:
            self._answer((self.runs / name / REPORT).read_bytes())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, page: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page))}
        for header, value in {**headers, "Content-Security-Policy": POLICY, "Cache-Control": "no-store"}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what MLflow prints is enough."""
