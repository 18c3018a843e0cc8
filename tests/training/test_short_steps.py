"""Steps for which fewer prompts with a signal were found than asked for."""

from types import SimpleNamespace
from typing import Any

import pytest

from fipo.algorithm.options import LossOptions
from fipo.config import load_config
from fipo.training.rl.learner import Learner
from fipo.training.rl.log import FEW_UPDATES, StepLog


@pytest.mark.parametrize(
    ("kept", "sizes"),
    [(512, [64] * 8), (128, [64, 64]), (65, [32, 33]), (130, [43, 43, 44]), (64, [64]), (3, [3]), (0, [])],
)
def test_no_update_learns_from_far_fewer_prompts_than_the_others(kept, sizes, monkeypatch):
    monkeypatch.setattr(Learner, "_mini_batch", lambda self, update, samples, known: samples)
    config = load_config("demo", ["train.prompts_per_step=512", "train.mini_batch_prompts=64"])
    nothing: Any = None
    groups: Any = [SimpleNamespace(samples=[index]) for index in range(kept)]
    parts: list[Any] = Learner(nothing, config, nothing).mini_batches(groups)
    assert [len(part) for part in parts] == sizes
    assert [one for part in parts for one in part] == list(range(kept)), "in their order"


@pytest.mark.parametrize(("loss", "told"), [("fipo", [3, 8]), ("dapo", [])])
def test_steps_of_one_update_are_told_of_once_for_all_that_follow_each_other(loss, told):
    lines: list[tuple[int, str]] = []
    job: Any = SimpleNamespace(log=lambda *_: None, say=lambda line: lines.append((step, line)))
    log = StepLog(job, LossOptions(loss=loss), 0.1)
    for step, updates in enumerate([1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0], start=1):
        log.learned(step, {"train/updates": updates}, {})
    assert lines == [(step, f"warning: {FEW_UPDATES}") for step in told]
