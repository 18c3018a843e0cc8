"""A phase takes what the device takes for it, not what it takes to ask the device."""

import time
from types import SimpleNamespace

import pytest
import torch

from fipo.distributed.packing import idle_fraction
from fipo.training.rl.timing import Timer


class Device:
    """Does what it is asked later, as a GPU does."""

    busy_until = 0.0

    def work(self, seconds):
        self.busy_until = max(self.busy_until, time.perf_counter()) + seconds

    def synchronize(self):
        time.sleep(max(0.0, self.busy_until - time.perf_counter()))


def test_a_phase_ends_when_the_device_has_done_its_work(monkeypatch):
    device = Device()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(synchronize=device.synchronize))
    timer = Timer()
    device.work(0.3)  # asked for before, and nobody's
    with timer("update"):
        device.work(0.2)
    with timer("sync"):
        pass
    assert timer.seconds["update"] == pytest.approx(0.2, abs=0.15)
    assert timer.seconds["update"] >= 0.19
    assert timer.seconds["sync"] < 0.1


def test_without_a_device_nothing_is_waited_for():
    timer = Timer()
    with timer("update"):
        pass
    assert timer.seconds["update"] < 0.1


def test_idle_is_what_ranks_wait_for_the_slowest():
    """Two rounds of 10 and 4 s on the slowest rank, of which the mean rank works 8 and 3."""
    timer, ahead = Timer(), Timer()
    timer.shared("generate", [(10.0, 6.0)])
    ahead.shared("generate", [(2.0, 4.0)])
    ahead.seconds["generate"] = 14.0
    timer.add(ahead)
    timer.shared("update", [[5.0, 5.0], [3.0, 3.0]])
    found = timer.metrics()
    assert found["perf/generate_idle_fraction"] == pytest.approx(3 / 14)
    assert found["perf/update_idle_fraction"] == 0.0
    assert found["perf/generate_seconds"] == 14.0
    assert idle_fraction([]) == 0.0
