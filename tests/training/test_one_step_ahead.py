"""Rollouts ahead of the updates: what is sampled when, by which weights, and what a restart makes of it."""

import signal
import threading
from typing import Any

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError, RewardError
from fipo.tracking import read_journal
from fipo.training.rl.batches import RolloutBatches, batches_ahead
from fipo.training.rl.timing import Timer

AHEAD = (
    "rollout.max_staleness=1",
    "algorithm.correction=truncate",
    "train.checkpoint_every=3",
    "distributed.processes=2",
)


def test_the_next_batch_is_made_while_this_one_is_trained_on():
    began, go_on = threading.Event(), threading.Event()

    def collect(step, timer):
        if step == 2:
            began.set()
            assert go_on.wait(600)
        with timer("generate"):
            return step, threading.current_thread()

    batches: Any = RolloutBatches(collect, ahead=lambda step: int(step == 1))
    timer = Timer()
    assert batches.take(1, timer) == (1, threading.current_thread())
    assert began.wait(600)
    go_on.set()
    batches.settle()
    step, thread = batches.take(2, timer)
    assert step == 2
    assert thread.name == "rollouts-2"
    assert batches.take(3, timer) == (3, threading.current_thread())
    assert timer.seconds["generate"] > 0


def test_what_fails_ahead_is_raised_where_it_is_waited_for():
    def collect(step, timer):
        if step == 2:
            raise RewardError("broken")

    batches = RolloutBatches(collect, ahead=lambda step: 1)
    batches.take(1, Timer())
    with pytest.raises(RewardError, match="broken"):
        batches.settle()


def test_stale_responses_need_a_correction():
    with pytest.raises(ConfigError, match=r"algorithm\.correction: must be truncate or mask"):
        load_config("demo", ["rollout.max_staleness=1"])


def test_an_engine_that_sleeps_during_the_updates_cannot_run_ahead():
    ahead = ["rollout.max_staleness=1", "algorithm.correction=mask"]
    assert load_config("demo", [*ahead, "rollout.engine=served"]).rollout.max_staleness == 1
    with pytest.raises(ConfigError, match=r"rollout\.engine: must be served or transformers"):
        load_config("demo", [*ahead, "rollout.engine=vllm"])


def test_only_servers_go_on_with_new_weights_and_may_be_further_ahead():
    ahead = ["rollout.max_staleness=2", "algorithm.correction=mask"]
    assert load_config("demo", [*ahead, "rollout.engine=served"]).rollout.max_staleness == 2
    with pytest.raises(ConfigError, match=r"rollout\.max_staleness: must be 0 or 1 unless rollout\.engine = served"):
        load_config("demo", ahead)


def test_batches_further_ahead_are_made_one_after_the_other():
    made, go_on = [], {step: threading.Event() for step in (2, 3)}

    def collect(step, timer):
        if step in go_on:
            assert go_on[step].wait(600)
        made.append(step)
        return step

    batches: Any = RolloutBatches(collect, ahead=lambda step: 2 if step == 1 else 0)
    assert batches.take(1, Timer()) == 1 and batches.begun
    go_on[3].set()  # the third waits for the second all the same
    assert made == [1]
    go_on[2].set()
    batches.wait()
    assert [batches.take(step, Timer()) for step in (2, 3, 4)] == [2, 3, 4] == made[1:]
    assert not batches.begun


@pytest.mark.parametrize(
    ("step", "most", "ahead"),
    [
        (1, 0, 0),
        (1, 1, 1),
        (1, 3, 2),  # the batches of steps 2 and 3: after step 3 comes a checkpoint
        (2, 3, 1),
        (3, 3, 0),
        (7, 3, 1),  # step 8 is the last
        (8, 3, 0),
    ],
)
def test_no_batch_is_begun_before_a_checkpoint_that_comes_first(step, most, ahead):
    assert batches_ahead(step, most=most, steps=8, checkpoint_every=3) == ahead


@pytest.mark.slow
def test_responses_are_one_step_stale_except_after_a_checkpoint(forked_run):
    code, output = forked_run("train", *AHEAD)
    assert code == 0, output
    undisturbed = forked_run.result("train").outputs["model"].sha256
    logged = read_journal(forked_run.journal(*AHEAD))
    steps = {step: metrics for step, metrics in logged if "rollout/staleness_mean" in metrics}
    updates = {step: metrics["train/updates"] for step, metrics in steps.items()}
    staleness = {
        step: (metrics["rollout/staleness_mean"], metrics["rollout/staleness_max"]) for step, metrics in steps.items()
    }
    assert updates[1] > 0
    assert staleness == {1: (0, 0), 2: (updates[1],) * 2, 3: (updates[2],) * 2, 4: (0, 0)}
    assert steps[1]["train/mismatch_log_prob_gap_max"] < 1e-4 < steps[2]["train/mismatch_log_prob_gap_max"]

    # A run that continues from the checkpoint after step 3 samples step 4 from the same weights.
    stopped = forked_run.start_held("step 3/4", *AHEAD, fresh=True)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate()
    assert stopped.returncode == 75, output
    code, output = forked_run("train", *AHEAD)
    assert code == 0, output
    assert "from step 3" in output, output
    assert forked_run.result("train").outputs["model"].sha256 == undisturbed
