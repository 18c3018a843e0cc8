"""What a step says of its own metrics."""

from types import SimpleNamespace
from typing import Any

import pytest

from fipo.algorithm.options import LossOptions
from fipo.training.rl.log import FEW_UPDATES, StepLog


@pytest.mark.parametrize(("loss", "told"), [("fipo", [3, 8]), ("dapo", [])])
def test_steps_of_one_update_are_told_of_once_for_all_that_follow_each_other(loss, told):
    lines: list[tuple[int, str]] = []
    step = 0
    job: Any = SimpleNamespace(log=lambda *_: None, say=lambda line: lines.append((step, line)))
    log = StepLog(job, LossOptions(loss=loss), 0.1)
    for step, updates in enumerate([1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0], start=1):
        log.learned(step, {"train/updates": updates}, {})
    assert lines == [(step, f"warning: {FEW_UPDATES}") for step in told]


@pytest.mark.parametrize(("staleness", "warned"), [(0.0, True), (8.0, False)])
def test_only_a_gap_on_the_same_weights_is_a_fault_of_the_engine(staleness, warned):
    lines: list[str] = []
    job: Any = SimpleNamespace(log=lambda *_: None, say=lines.append)
    found = {"train/updates": 2.0, "train/mismatch_log_prob_gap_mean": 0.11, "rollout/staleness_max": staleness}
    StepLog(job, LossOptions(), 0.1).learned(1, found, {})
    assert ["engine are 0.11 nats apart" in line for line in lines] == [True] * warned
