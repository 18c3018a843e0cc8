"""A wait has an end, and says so."""

import re
import socket
import threading
import time

import pytest

from fipo.tracking import Tracker
from fipo.waits import Wait


def test_a_wait_says_what_for_since_when_and_until_when():
    said = re.fullmatch(
        r"waiting for the moon since (\d\d:\d\d:\d\d), until (\d\d:\d\d:\d\d) at the latest", str(Wait("the moon", 90))
    )
    assert said
    since, until = (
        sum(int(part) * unit for part, unit in zip(one.split(":"), (3600, 60, 1), strict=True)) for one in said.groups()
    )
    assert (until - since) % 86400 == 90


def test_a_wait_is_over_by_a_clock_that_does_not_jump(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    wait = Wait("x", 5)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    now[0] = 104.0
    assert (wait.left, wait.over) == (1.0, False)
    now[0] = 106.0
    assert (wait.left, wait.over) == (0.0, True)


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        held: list[socket.socket] = []

        def take():
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_step_ends_in_its_time_when_mlflow_does_not_answer_and_says_that_it_waits(
    tmp_path, silent, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("fipo.tracking.drain._PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr("fipo.tracking.drain._SILENT_SECONDS", 0.5)
    tracker = Tracker.open(
        silent, experiment="e", run_name="n", run_key="k", journal=tmp_path / "journal.jsonl", close_timeout_seconds=2.0
    )
    asked = time.monotonic()
    assert (tracker.run_id, tracker.pipeline_run, tracker.url) == ("", "", "")
    patience = time.monotonic() - asked
    closing = time.monotonic()
    assert tracker.close("FINISHED") is False
    assert time.monotonic() - closing < 30  # 2 s, and what a busy machine adds
    assert re.search(r"waiting for MLflow to take what is left since .*, until .* at the latest", caplog.text)
    again = time.monotonic()
    assert tracker.run_id == ""
    assert time.monotonic() - again < max(1.0, patience), "patience is spent once"
