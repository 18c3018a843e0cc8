"""Every rank writes its part of a step's record beside the next step; together they are the whole, bit for bit."""

import json
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score, TokenTrace
from fipo.config import Architecture, Model, Train
from fipo.distributed.bootstrap import World
from fipo.errors import StorageError
from fipo.models import load_tokenizer
from fipo.rollout.record import record_table, store_record
from fipo.rollout.texts import TokenTexts
from fipo.run.rollouts import Rollouts
from fipo.storage import open_store
from fipo.training import checkpointing
from fipo.training.checkpointing import Checkpoints, LoopState
from fipo.training.rl.records import Records, owner
from fipo.training.rl.sampling import RolloutBatch

TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=("a", "b", "c"))))
PREFIX = "mine/train/rollouts/0123456789ab"
LONGEST = ("p3", 0, 1)


def batch():
    """Five groups of two, all but one learned from, the longest response in the fourth; their traces."""
    draw, groups, traces = np.random.default_rng(5), [], {}
    for index in range(5):
        rollouts = []
        for place in range(2):
            count = 9 if (f"p{index}", 0, place) == LONGEST else int(draw.integers(1, 6))
            ids = draw.integers(1, 5, count).astype(np.int32)
            rollouts.append(Rollout(ids, -draw.random(count).astype(np.float32), FinishReason.STOP, 3))
        prompt = Prompt(f"p{index}", "a b", (2, 3), "1")
        scores = (Score(Outcome.CORRECT, 1.0, 1.0), Score(Outcome.WRONG, 0.0, 0.0))
        group = RolloutGroup(prompt, tuple(rollouts), scores, () if index == 2 else (1.0, -1.0))
        for sample in group.samples if index != 2 else ():
            fields = draw.random((5, len(sample.rollout.token_ids))).astype(np.float16)
            traces[sample.key] = TokenTrace(index // 3, *fields)
        groups.append(group)
    return RolloutBatch(groups, [0, 1, 3, 4], 1, 5), traces


def records(folder, world, store=None):
    workspace: Any = SimpleNamespace(
        directory=folder, store=store or open_store((folder / "objects").as_uri()), rollouts_prefix=PREFIX
    )
    job: Any = SimpleNamespace(world=world, workspace=workspace, attempt=object() if world.is_main else None)
    return Records(job, TOKENIZER)


def rank(rank, size, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/ranks-{size}", rank=rank, world_size=size)
    own, (sampled, traces) = records(folder, World(rank, size, rank, torch.device("cpu"))), batch()
    learned = {key: trace for index, (key, trace) in enumerate(traces.items()) if index % size == rank}
    own.keep(7, sampled, learned, show=False)
    own.settle()
    dist.destroy_process_group()


def test_the_parts_are_the_whole(tmp_path):
    """Rows learned from on one rank are recorded on another."""
    sampled, traces = batch()
    expected = record_table(7, sampled.sampled, traces, TokenTexts(TOKENIZER))
    store = open_store((tmp_path / "objects").as_uri())
    # Of an attempt by three ranks that was killed:
    store_record(expected.slice(0, 4), store, PREFIX, 7, part=1, parts=3)
    spawn(rank, (2, tmp_path), nprocs=2)
    kept = Rollouts(store, "mine/train/rollouts/")
    assert kept.lineages() == {"0123456789ab": [7]}
    assert kept.whole("0123456789ab", 7).equals(expected)
    assert kept.read("0123456789ab", 7, ["token_ids", "update"]).equals(expected.select(["token_ids", "update"]))
    some = kept.read_rows("0123456789ab", 7, [1, 6, 9], ["prompt_id", "advantage"])
    assert some.equals(expected.select(["prompt_id", "advantage"]).take([1, 6, 9]))
    names = sorted(path.name for path in (tmp_path / "objects" / PREFIX).iterdir())
    assert names == [f"step-000007.{part}-of-2.parquet" for part in range(2)]
    (shown,) = map(json.loads, (tmp_path / "records" / "influence.jsonl").read_text().splitlines())
    assert shown["influence_weights"] == traces[LONGEST].influence_weights.tolist(), "the longest of the last update"


def of_steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rows_are_added_to_what_is_there_and_replace_what_is_sampled_again(world, tmp_path):
    """A killed attempt has left a step that its checkpoint does not know, and half a row of the one after."""
    (sampled, traces), path = batch(), tmp_path / "records" / "influence.jsonl"
    first = records(tmp_path, world)
    for step in (1, 2, 3):
        first.keep(step, sampled, traces, show=False)
    first.settle()
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole.splitlines()[0][:40].replace(b"1", b"4", 1))
    again = records(tmp_path, world)
    again.keep(3, sampled, traces, show=False)
    assert of_steps(path) == [1, 2, 3]
    again.keep(4, sampled, traces, show=False)
    assert path.read_bytes()[: len(whole)] == whole
    again.keep(2, sampled, traces, show=False)  # bad steps: training has returned to an older checkpoint
    again.settle()
    assert of_steps(path) == [1, 2]


def test_a_step_reads_nothing_of_the_steps_before(world, tmp_path):
    (sampled, traces), path = batch(), tmp_path / "records" / "influence.jsonl"
    kept = records(tmp_path, world)
    kept.keep(1, sampled, traces, show=False)
    path.write_text("not rows\n")
    kept.keep(2, sampled, traces, show=False)
    kept.settle()
    assert path.read_text().startswith('not rows\n{"step": 2, ')


def test_groups_are_shared_out_in_order():
    assert [owner(index, 5, 3) for index in range(5)] == [0, 0, 1, 1, 2]
    assert [owner(index, 2, 8) for index in range(2)] == [0, 4], "rank 0 has the first"


def test_a_step_is_there_when_all_ranks_have_written_it(tmp_path):
    store, table = open_store(tmp_path.as_uri()), record_table(7, batch()[0].sampled, {}, TokenTexts(TOKENIZER))
    for part in range(2):
        assert Rollouts(store, "mine/train/rollouts/").lineages() == {}
        store_record(table.slice(5 * part, 5), store, PREFIX, 7, part=part, parts=2)
    assert Rollouts(store, "mine/train/rollouts/").whole("0123456789ab", 7).num_rows == 10


class Slow:
    """A store that writes when it is let."""

    def __init__(self, folder):
        self.real, self.go, self.keys, self.fault = open_store(folder.as_uri()), threading.Event(), [], None

    def list(self, prefix):
        return self.real.list(prefix)

    def put(self, key, data):
        assert self.go.wait(600)
        if self.fault:
            raise self.fault
        self.real.put(key, data)
        self.keys.append(key)


def test_the_next_step_does_not_wait_for_the_store_and_the_one_after_it_does(world, tmp_path):
    slow, (sampled, traces) = Slow(tmp_path), batch()
    kept = records(tmp_path, world, slow)
    kept.keep(1, sampled, traces, show=False)
    assert slow.keys == []
    threading.Timer(0.2, slow.go.set).start()
    kept.keep(2, sampled, traces, show=False)
    assert slow.keys[:1] == [f"{PREFIX}/step-000001.parquet"], "at most one step is held in memory"
    kept.settle()
    assert len(slow.keys) == 2


def test_what_the_store_refuses_is_no_secret(world, tmp_path):
    slow, (sampled, traces) = Slow(tmp_path), batch()
    slow.fault = StorageError("full")
    slow.go.set()
    kept = records(tmp_path, world, slow)
    kept.keep(1, sampled, traces, show=False)
    with pytest.raises(StorageError, match="full"):
        kept.settle()
    kept.settle()


def test_no_checkpoint_says_of_a_step_that_its_record_is_there_before_it_is(world, tmp_path, monkeypatch):
    order: list[str] = []
    monkeypatch.setattr(checkpointing, "save_checkpoint", lambda *_, **__: order.append("checkpoint"))
    job: Any = SimpleNamespace(
        world=world,
        workspace=SimpleNamespace(directory=tmp_path),
        config=SimpleNamespace(storage=SimpleNamespace(uri="")),
        say=print,
        log=lambda *_: None,
    )
    engine: Any = SimpleNamespace(skipped_in_a_row=0)
    checkpoints = Checkpoints(job, engine, Train(), LoopState(), written=lambda: order.append("record"))
    checkpoints.reached(LoopState(1), last=True)
    assert order == ["record", "checkpoint"]
