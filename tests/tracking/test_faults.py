"""A real MLflow server that fails in every way: at the end each point is there exactly once."""

import time

import pytest

from fipo.tracking import Tracker, reconcile, replay
from fipo.tracking.client import connect
from fipo.tracking.runs import replay_left
from tests.tracking.found import PATIENT, runs_of
from tests.waiting import wait_until


@pytest.fixture
def story(request, proxy, tmp_path):
    """A tracker whose server is behind the proxy, and what arrived in MLflow."""

    class Story:
        experiment, step, slowest = request.node.name, 0, 0.0

        def open(self, **options):
            options = {**PATIENT, **options}
            self.tracker = Tracker.open(
                proxy.uri, experiment=self.experiment, run_name="run", run_key="key",
                journal=tmp_path / "journal.jsonl", **options,
            )  # fmt: skip
            return self.tracker

        def log(self, points=50):
            for _ in range(points):
                started = time.perf_counter()
                self.tracker.log({"train/loss": self.step / 8}, self.step)
                self.slowest = max(self.slowest, time.perf_counter() - started)
                self.step += 1

        def drained(self):
            return self.tracker.drained

        def outage(self, mode):
            """Log while the server fails in this way, until the drain has met it twice."""
            proxy.mode = mode
            seen = proxy.requests
            self.log()
            wait_until(lambda: proxy.requests >= seen + 2)
            assert not self.drained()
            self.log()

        def assert_complete(self, server, status):
            client = connect(server.uri)
            (run,) = runs_of(client, self.experiment)
            points = client.get_metric_history(run.info.run_id, "train/loss")
            assert sorted((p.step, p.value) for p in points) == [(step, step / 8) for step in range(self.step)]
            assert run.info.status == status
            return run

    return Story()


@pytest.mark.parametrize("mode", ["refuse", "error", "hang", "cut"])
def test_an_outage_in_the_middle(story, proxy, server, mode):
    with story.open() as tracker:
        story.log()
        wait_until(story.drained)
        story.outage(mode)
        proxy.mode = "pass"
        wait_until(story.drained)
        assert tracker.url.startswith(proxy.uri)
    story.assert_complete(server, "FINISHED")


@pytest.mark.parametrize("mode", ["refuse", "cut"])
def test_an_outage_at_the_start_makes_no_second_run(story, proxy, server, mode):
    proxy.mode = mode
    with story.open():
        story.outage(mode)
        proxy.mode = "pass"
    story.assert_complete(server, "FINISHED")


def test_an_outage_to_the_end_is_told_and_made_good_by_replay(story, proxy, server, tmp_path, caplog):
    story.open(close_timeout_seconds=1.0)
    story.log()
    wait_until(story.drained)
    story.outage("hang")
    began = time.time()
    assert not story.tracker.close("FAILED")
    ended = time.time()
    assert "MLflow has only part of this run" in caplog.text
    proxy.mode = "pass"
    assert replay(tmp_path / "journal.jsonl")
    run = story.assert_complete(server, "FAILED")
    assert began - 0.001 < run.info.end_time / 1000 < ended, "the end is when the step ended, not when it was told"


def test_restarting_the_step_sends_what_the_last_attempt_could_not(story, proxy, server, monkeypatch):
    monkeypatch.setattr("fipo.tracking.drain._PATIENCE_SECONDS", 0.1)
    proxy.mode = "refuse"
    story.open(close_timeout_seconds=0.1)
    story.outage("refuse")
    assert (story.tracker.run_id, story.tracker.url) == ("", "")
    story.tracker.close("KILLED")
    proxy.mode = "pass"
    with story.open():
        story.log()
    story.assert_complete(server, "FINISHED")


def test_an_outage_from_beginning_to_end_is_made_good_on_the_next_occasion(story, proxy, server, tmp_path):
    proxy.mode = "refuse"
    story.open(close_timeout_seconds=0.1)
    story.log()
    assert not story.tracker.close("FINISHED")
    proxy.mode = "pass"
    assert replay_left(tmp_path) == [tmp_path / "journal.jsonl"]
    story.assert_complete(server, "FINISHED")


def test_the_exit_handler_outlives_an_outage(proxy, caplog):
    proxy.mode = "error"
    assert reconcile(proxy.uri, run_key="pipeline", status="SUCCEEDED") == []
    assert "cannot be reached" in caplog.text


def test_the_server_killed_and_started_again(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with Tracker.open(
        server.uri, experiment="killed", run_name="run", run_key="key", journal=tmp_path / "journal.jsonl", **PATIENT
    ) as tracker:
        for step in range(3000):
            if step == 1500:
                server.kill()  # in the middle of a batch
            tracker.log({"train/loss": float(step)}, step)
        wait_until(lambda: tracker._drain.error)
        server.start()
    client = connect(server.uri)
    (run,) = runs_of(client, "killed")
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in points) == list(range(3000))
    assert run.info.status == "FINISHED"
