"""Run by test_faults.py under torchrun on two ranks: what goes wrong on one rank is handled alike on both."""

import copy
import math
import os
import random
import resource
import shutil
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.distributed_c10d import _world
from torch.nn.functional import dropout

sys.path.insert(0, str(Path(__file__).parent))
from stages_worker import SETTINGS, model, rows  # type: ignore[import-not-found]  # beside the script
from wholes import whole_parameters  # type: ignore[import-not-found]

from fipo.config import Distributed, load_config
from fipo.distributed.bootstrap import join_world
from fipo.distributed.checkpoints import committed, load_checkpoint, save_checkpoint
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.random_state import random_state, seed_everything
from fipo.errors import CheckpointError, StopRequested, TrainingError
from fipo.storage import open_store
from fipo.training.checkpointing import Checkpoints, LoopState
from fipo.training.rollback import RollBack
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
    norm = engine.step().grad_norm
    return norm, any(not torch.equal(before[name], value) for name, value in engine.weights())


def bad_steps_change_nothing(world, folder):
    for stage in (0, 1, 2, 3):
        for precision in ("fp32", "bf16"):
            engine = make_engine(world, stage, precision, skip_grad_norm=100.0)
            assert not step(engine, math.nan)[1]  # the very first, before Adam has moments
            norm, changed = step(engine, 1.0)
            assert all(whole["exp_avg"].any() for whole in whole_parameters(engine).values())
            assert changed and norm < 100.0 and engine.skipped_in_a_row == 0, (stage, norm)
            for skipped, factor in enumerate((math.nan, 1e9, math.inf), start=1):
                norm, changed = step(engine, factor)
                assert not changed and not norm < 100.0, (stage, precision, factor, norm)
                assert (engine.skipped_in_a_row, engine.steps_done) == (skipped, 1)
            assert step(engine, 1.0)[1] and (engine.skipped_in_a_row, engine.steps_done) == (0, 2)


def a_checkpoint_before_the_first_step_changes_nothing(world, folder):
    for stage in (0, 1, 2, 3):
        saved, plain = make_engine(world, stage), make_engine(world, stage)
        before = weights(saved)
        save_checkpoint(saved, folder / str(stage), 1, {}, random_state=random_state())
        assert same(weights(saved), before)
        continued = make_engine(world, stage)
        [commit] = committed(folder / str(stage)).values()
        load_checkpoint(continued, folder / str(stage) / "step-00000001", commit)
        for engine in (saved, plain, continued):
            assert step(engine, 1.0)[1] and step(engine, 1.0)[1]
        assert same(weights(saved), weights(plain)), stage
        assert same(weights(continued), weights(plain)), stage


def every_group_has_the_time_out(world, folder):
    make_engine(world, 1)
    torch.distributed.new_group([0, 1])
    assert len(_world.pg_map) >= 3
    for group in _world.pg_map:
        assert group._get_backend(torch.device("cpu")).options._timeout == timedelta(seconds=60)


def a_full_disk_on_one_rank_fails_the_save_on_all_and_no_more(world, folder):
    engine = make_engine(world, 1)
    step(engine, 1.0)
    save_checkpoint(engine, folder, 1, {}, random_state=random_state())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if world.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    with pytest.raises(CheckpointError, match=r"step-00000002 could not be written: rank 1: .*File too large"):
        save_checkpoint(engine, folder, 2, {}, random_state=random_state())
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    world.barrier()
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
    world.barrier()
    save_checkpoint(engine, folder, 2, {}, random_state=random_state())
    assert list(committed(folder)) == [1, 2]


def random_numbers_continue_on_every_rank(world, folder):
    """With dropout, which draws from torch's generator."""

    def dropping():
        engine = make_engine(world, 1)
        engine.model.model.embed_tokens.register_forward_hook(lambda *call: dropout(call[-1], 0.5))
        return engine

    whole = dropping()
    step(whole, 1.0)
    path = save_checkpoint(whole, folder, 1, {}, random_state=random_state())
    then = [step(whole, 1.0)[0] for _ in range(2)]
    again = dropping()
    load_checkpoint(again, path, committed(folder)[1])
    assert [step(again, 1.0)[0] for _ in range(2)] == then
    assert same(weights(again), weights(whole))
    load_checkpoint(again, path, committed(folder)[1])
    torch.manual_seed(world.rank)
    assert [step(again, 1.0)[0] for _ in range(2)] != then


class Job:
    """What `Checkpoints` needs of a job; keeps what was said and logged."""

    def __init__(self, world, folder):
        self.world, self.lines, self.metrics = world, [], {}
        store = folder / "store"
        self.config = load_config("demo", [f"storage.uri={store.as_uri()}"])
        self.workspace = SimpleNamespace(
            directory=folder, store=open_store(store.as_uri()), checkpoint_prefix="run/checkpoints"
        )

    def say(self, line):
        self.lines.append(line)

    def log(self, metrics, step):
        self.metrics |= metrics


def begin(world, folder, **settings):
    job: Any = Job(world, folder)
    engine = make_engine(world, 1)
    settings = {"checkpoint_every": 1, **settings}
    return job, engine, Checkpoints(job, engine, SETTINGS.model_copy(update=settings), LoopState())


def train(engine, checkpoints, steps, scores=None):
    for number in steps:
        step(engine, 1.0)
        checkpoints.reached(LoopState(number), score=(scores or {}).get(number))


def steps_in(folder):
    return sorted(int(path.parent.name.removeprefix("step-")) for path in folder.glob("step-*/COMMIT.json"))


def a_fresh_machine_continues_from_the_store(world, folder):
    scores = {1: 0.5, 2: 0.9, 3: 0.1}
    _, engine, checkpoints = begin(world, folder, keep_checkpoints=1, keep_best_checkpoints=1, keep_checkpoints_every=4)
    assert checkpoints.resume(at_most=99) == LoopState(0)
    train(engine, checkpoints, range(1, 7), scores)
    checkpoints.close()
    local = folder / "checkpoints"
    for place in (local, folder / "store/run/checkpoints"):
        assert steps_in(place) == [2, 4, 6], (place, steps_in(place))  # best, every fourth, newest
    world.barrier()
    if world.is_main:
        shutil.rmtree(local)
    job, fresh, checkpoints = begin(world, folder)
    assert checkpoints.resume(at_most=99) == LoopState(6)
    assert same(weights(fresh), weights(engine))
    assert not world.is_main or "checkpoint of step 6 comes from the object store" in job.lines
    assert checkpoints.resume(at_most=5) == LoopState(4)


def a_damaged_checkpoint_is_mended_from_the_store_or_passed_over(world, folder):
    _, engine, checkpoints = begin(world, folder)
    checkpoints.resume(at_most=99)
    train(engine, checkpoints, [1, 2])
    checkpoints.close()
    [shard] = (folder / "checkpoints/step-00000002").glob("rank-00001*")
    stored = folder / "store/run/checkpoints/step-00000002" / shard.name
    for damaged, expected, told in (
        ([shard], 2, "checkpoint of step 2 comes from the object store"),
        ([shard, stored], 1, "step-00000002 is damaged; looking for an older one"),
    ):
        if world.is_main:
            for path in damaged:
                data = bytearray(path.read_bytes())
                data[-1] ^= 1
                path.write_bytes(data)
        world.barrier()
        job, _, checkpoints = begin(world, folder)
        assert checkpoints.resume(at_most=99) == LoopState(expected)
        assert not world.is_main or any(told in line for line in job.lines)


def without_the_store_training_goes_on_and_the_rest_is_sent_later(world, folder):
    job, engine, checkpoints = begin(world, folder)
    checkpoints.resume(at_most=99)
    store = folder / "store/run/checkpoints"
    if world.is_main:
        store.parent.mkdir(parents=True)
        store.write_text("a file where the store wants a folder")
    train(engine, checkpoints, [1])
    while world.is_main and not any("could not be sent to the object store" in line for line in job.lines):
        time.sleep(0.05)
    world.barrier()
    if world.is_main:
        store.unlink()
    train(engine, checkpoints, [2])
    checkpoints.close()
    assert steps_in(store) == [1, 2]
    assert not world.is_main or job.metrics["checkpoint/failed_uploads"] == 1


def too_many_bad_steps_return_to_the_checkpoint_once(world, folder):
    job, engine, checkpoints = begin(world, folder)
    roll_back = RollBack(job, engine, SETTINGS.model_copy(update={"max_skipped_updates": 2}), checkpoints)
    checkpoints.resume(at_most=99)
    with pytest.raises(TrainingError, match="no checkpoint yet to return to"):
        roll_back.before(1)
    train(engine, checkpoints, [1])
    good = weights(engine)
    step(engine, 1.0)  # a good step, which the return undoes, before two bad ones
    step(engine, math.nan)
    assert not roll_back.due
    checkpoints.reached(LoopState(3))
    assert steps_in(folder / "checkpoints") == [1]  # nothing is saved on the way down
    step(engine, math.nan)
    assert roll_back.due
    assert roll_back.before(4) == LoopState(1)
    assert same(weights(engine), good)
    assert not roll_back.due
    assert "back to the checkpoint of step 1, and on with other data" in job.lines[-1]
    assert job.metrics["checkpoint/rollbacks"] == 1
    step(engine, math.nan)
    step(engine, math.nan)
    with pytest.raises(TrainingError, match=r"again after a return to the last checkpoint.*lower learning_rate"):
        roll_back.before(3)


def each_rank_has_random_numbers_of_its_own_and_again(world, folder):
    drawn = []
    for _ in range(2):
        seed_everything(7, world.rank)
        drawn.append(world.gather((random.random(), np.random.rand(), torch.rand(()).item())))
    assert drawn[0] == drawn[1]
    assert len({number for numbers in drawn[0] for number in numbers}) == 3 * world.size


def a_stop_of_one_rank_interrupts_all(world, folder):
    """The last case: nothing takes a stop request back."""
    began = time.monotonic()
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StopRequested):
        world.wait_or_stop(lambda: time.sleep(600))
    assert time.monotonic() - began < 300


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


CASES = (
    bad_steps_change_nothing,
    a_checkpoint_before_the_first_step_changes_nothing,
    every_group_has_the_time_out,
    a_full_disk_on_one_rank_fails_the_save_on_all_and_no_more,
    random_numbers_continue_on_every_rank,
    a_fresh_machine_continues_from_the_store,
    a_damaged_checkpoint_is_mended_from_the_store_or_passed_over,
    without_the_store_training_goes_on_and_the_rest_is_sent_later,
    too_many_bad_steps_return_to_the_checkpoint_once,
    each_rank_has_random_numbers_of_its_own_and_again,
    a_stop_of_one_rank_interrupts_all,
)

if __name__ == "__main__":
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        for case in CASES:
            case(world, Path(sys.argv[1]) / case.__name__)
            world.barrier()
            if world.is_main:
                print(f"{case.__name__} ok", flush=True)
