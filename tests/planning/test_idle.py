"""What ranks will wait for: nothing where lengths are equal, and as much as packing and queueing make of others."""

from dataclasses import replace

import pytest

from fipo.config import load_config
from fipo.planning.hardware import GPUS, Assumptions
from fipo.planning.idle import idle_of
from fipo.planning.plan import Hardware, make_plan
from tests.planning.test_plan import model_file, shape

__all__ = ["model_file", "shape"]


def found(shape, *settings, **assumed):
    hardware = Hardware(GPUS["h100"], 4, 8, 4, replace(Assumptions(), **assumed))
    config = load_config("paper-7b", ["distributed.zero_stage=3", "train.prompts_per_step=256", *settings])
    return idle_of(make_plan(config, shape, hardware), config)


def test_equal_lengths_leave_nobody_waiting(shape):
    alike = found(shape, "rollout.engine=vllm", response_sigma=1e-9)
    assert alike.generation == pytest.approx(0.0, abs=1e-6)
    assert alike.updates == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_unequal_lengths_are_waited_for(shape, engine):
    little, much = (found(shape, f"rollout.engine={engine}", response_sigma=sigma) for sigma in (0.2, 0.9))
    assert 0.0 < little.generation < much.generation < 0.7
    assert much.updates < 0.05, "rows are packed to equal cost"


def test_one_queue_waits_less_than_prompts_that_are_dealt_out(shape):
    dealt = found(shape, "rollout.engine=vllm", "rollout.tensor_parallel=4")
    one = found(shape, "rollout.engine=served", "rollout.servers=[http://a,http://b]", "rollout.tensor_parallel=4")
    assert one.generation < dealt.generation
