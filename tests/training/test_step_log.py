"""What a step says of its own metrics."""

from types import SimpleNamespace
from typing import Any

import pytest

from fipo.algorithm.options import LossOptions
from fipo.training.rl.log import StepLog


@pytest.mark.parametrize(("staleness", "warned"), [(0.0, True), (8.0, False)])
def test_only_a_gap_on_the_same_weights_is_a_fault_of_the_engine(staleness, warned):
    lines: list[str] = []
    job: Any = SimpleNamespace(log=lambda *_: None, say=lines.append)
    found = {"train/updates": 2.0, "train/mismatch_log_prob_gap_mean": 0.11, "rollout/staleness_max": staleness}
    StepLog(job, LossOptions(), 0.1).learned(1, found, {})
    assert ["engine are 0.11 nats apart" in line for line in lines] == [True] * warned
