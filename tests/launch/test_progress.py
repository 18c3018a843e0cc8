import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fipo.launch import progress
from fipo.launch.progress import Progress


@pytest.fixture
def controller(tmp_path, monkeypatch):
    """Kubeflow Trainer's status server; what it is told."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append((self.headers["Authorization"], body["trainerStatus"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv(progress.SERVER_VARIABLE, f"http://127.0.0.1:{server.server_port}/status")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
    monkeypatch.setattr("kubeflow.trainer.backends.kubernetes.utils._MIN_UPDATE_INTERVAL_SECONDS", 0)
    yield told
    server.shutdown()
    server.server_close()


def test_the_controller_is_told_share_time_left_and_metrics(controller):
    reports = Progress(steps=20)
    reports.report(5, {})
    assert reports._sender
    reports._sender.join()
    reports._began = (5, time.monotonic() - 10)
    reports.report(10, {"rollout/accuracy": 0.25})
    took = time.monotonic() - reports._began[1]
    assert reports._sender
    reports._sender.join()
    (first_token, first), (_, second) = controller
    assert first_token == "Bearer secret"
    assert first["progressPercentage"] == 25 and "estimatedRemainingSeconds" not in first
    assert second["progressPercentage"] == 50
    assert 20 <= second["estimatedRemainingSeconds"] <= 2 * took, "ten steps left, five took ten seconds"
    assert second["metrics"] == [{"name": "rollout/accuracy", "value": "0.25"}]


def test_a_report_is_left_out_while_one_is_on_its_way(monkeypatch):
    arrived, answer = [], threading.Event()

    def send(*report):
        arrived.append(report)
        answer.wait(600)

    monkeypatch.setenv(progress.SERVER_VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setattr(progress, "_send", send)
    reports = Progress(steps=10)
    for step in range(1, 6):
        reports.report(step, {})
    answer.set()
    assert reports._sender
    reports._sender.join()
    assert [percent for percent, *_ in arrived] == [10]


def test_elsewhere_nothing_is_sent(monkeypatch):
    monkeypatch.delenv(progress.SERVER_VARIABLE, raising=False)
    reports = Progress(steps=10)
    reports.report(1, {})
    assert reports._sender is None
