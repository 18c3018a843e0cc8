"""Run by test_faults.py under torchrun on two ranks: what goes wrong on one rank is handled alike on both."""

import copy
import math
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch.distributed.distributed_c10d import _world

sys.path.insert(0, str(Path(__file__).parent))
from stages_worker import SETTINGS, model, rows

from fipo.config import Distributed
from fipo.distributed.bootstrap import join_world
from fipo.distributed.engine import TrainingEngine
from fipo.training.rows import pack_rows


def make_engine(world, stage, precision="fp32", **settings):
    distributed = Distributed(zero_stage=stage, precision=precision, timeout_seconds=60)
    return TrainingEngine(copy.deepcopy(model(True)), SETTINGS.model_copy(update=settings), distributed, world)


def weights(engine):
    return {name: value.clone() for name, value in engine.weights()}


def step(engine, factor):
    """One step whose loss is multiplied on the last rank: (norm, whether any weight changed)."""
    log_probs, _ = engine.log_probs(pack_rows(rows(1), 0))
    before = weights(engine)
    engine.backward(-log_probs.sum() * (factor if engine.world.rank == engine.world.size - 1 else 1.0))
    norm = engine.step()
    return norm, any(not torch.equal(before[name], value) for name, value in engine.weights())


def bad_steps_change_nothing(world, folder):
    for stage in (0, 1, 2, 3):
        for precision in ("fp32", "bf16"):
            engine = make_engine(world, stage, precision, skip_grad_norm=100.0)
            norm, changed = step(engine, 1.0)
            assert changed and norm < 100.0 and engine.skipped_in_a_row == 0, (stage, norm)
            for skipped, factor in enumerate((math.nan, 1e9, math.inf), start=1):
                norm, changed = step(engine, factor)
                assert not changed and not norm < 100.0, (stage, precision, factor, norm)
                assert (engine.skipped_in_a_row, engine.steps_done) == (skipped, 1)
            assert step(engine, 1.0)[1] and (engine.skipped_in_a_row, engine.steps_done) == (0, 2)


def every_group_has_the_time_out(world, folder):
    make_engine(world, 1)
    torch.distributed.new_group([0, 1])
    assert len(_world.pg_map) >= 3
    for group in _world.pg_map:
        assert group._get_backend(torch.device("cpu")).options._timeout == timedelta(seconds=60)


CASES = (bad_steps_change_nothing, every_group_has_the_time_out)

if __name__ == "__main__":
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        for case in CASES:
            case(world, Path(sys.argv[1]) / case.__name__)
            world.barrier()
            if world.is_main:
                print(f"{case.__name__} ok", flush=True)
