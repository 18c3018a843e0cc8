"""What ranks will wait for: nothing where lengths are equal, and as much as packing and queueing make of others."""

from dataclasses import replace

import pytest

from fipo.config import load_config
from fipo.planning.hardware import GPUS, Assumptions
from fipo.planning.idle import batched_steps, idle_of
from fipo.planning.plan import Hardware, make_plan
from tests.planning.test_plan import model_file, shape

__all__ = ["model_file", "shape"]


def found(shape, *settings, **assumed):
    hardware = Hardware(GPUS["h100"], 4, 8, 4, replace(Assumptions(), **assumed))
    config = load_config("paper-7b", ["distributed.zero_stage=3", "train.prompts_per_step=256", *settings])
    return idle_of(make_plan(config, shape, hardware), config)


def test_equal_lengths_that_all_have_room_leave_nobody_waiting(shape):
    alike = found(shape, "rollout.engine=vllm", "rollout.group_size=4", response_sigma=1e-9)
    assert alike.generation == pytest.approx(0.0, abs=1e-6)
    assert alike.updates == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_unequal_lengths_are_waited_for(shape, engine):
    little, much = (found(shape, f"rollout.engine={engine}", response_sigma=sigma) for sigma in (0.2, 0.9))
    assert 0.0 < little.generation < much.generation < 0.7
    assert much.updates < 0.05, "rows are packed to equal cost"


def test_more_prompts_in_one_queue_wait_less(shape):
    few, many = (found(shape, "rollout.engine=vllm", f"train.prompts_per_step={count}") for count in (256, 4096))
    assert many.generation < few.generation / 2


def test_a_batch_is_taken_by_who_is_done_with_the_one_before():
    # Batches of one prompt with two responses: their longest have 9, 1, 8, 1, 7, 1 tokens.
    lengths = [[9, 2], [1, 1], [8, 3], [1, 1], [7, 7], [1, 1]]
    assert batched_steps(lengths, 2, 2, stealing=False) == [24, 3], "one engine has all the long ones"
    # 9 and 1; the second goes on with 8 (9), the first of the two that are even with 1 (10), then 7 (16) and 1 (11).
    assert batched_steps(lengths, 2, 2) == [11, 16]


def test_all_that_fits_in_one_batch_is_dealt_out():
    lengths = [[9], [1], [8], [1]]
    assert batched_steps(lengths, 2, 2) == batched_steps(lengths, 2, 2, stealing=False) == [9, 1]
