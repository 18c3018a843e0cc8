"""One queue of prompts over the ranks: a slow rank takes fewer, and nobody can tell from the responses."""

import json
from pathlib import Path

import torch

from fipo.distributed.bootstrap import World
from fipo.distributed.work_queue import taken

WORKER = Path(__file__).with_name("queue_worker.py")


def on_two_ranks(warm, folder, what):
    """What both ranks say of two batches."""
    code, printed = warm.run(WORKER, folder, what, ranks=2)
    assert code == 0, printed
    steps = [json.loads(line) for line in printed.splitlines() if line.startswith("[{")]
    assert len(steps) == 2
    return steps


def test_a_rank_that_sticks_leaves_its_share_to_the_other(warm, tmp_path):
    for fast, slow in on_two_ranks(warm, tmp_path, "train"):
        assert (fast["calls"], slow["calls"]) == (5, 1), "six parts of two prompts"
        assert (fast["begun"], slow["begun"]) == (10, 2), "who generates begins to grade"
        assert fast["numbers"] == slow["numbers"] == list(range(12)), "in the order of the prompts, on every rank"
        assert fast["told"] == list(range(1, 11))


def test_so_it_does_in_an_evaluation(warm, tmp_path):
    for fast, slow in on_two_ranks(warm, tmp_path, "evaluate"):
        assert (fast["kept"], slow["kept"]) == (10, 2)
        for rank in (fast, slow):
            assert (rank["problems"], rank["right"]) == (12, ["3", "6", "9"])
            assert rank["again"] == 0, "what any rank has kept is not sampled again"


def test_ranks_together_take_as_one():
    worlds = [World(rank, 4, 0, torch.device("cpu")) for rank in range(4)]
    assert [list(taken(world, 2, together=2)) for world in worlds] == [[0], [0], [1], [1]]


def test_one_part_a_rank_asks_nobody():
    for rank in (0, 1):
        # Without a process group there is no queue to ask.
        assert list(taken(World(rank, 2, 0, torch.device("cpu")), 2)) == [rank]
