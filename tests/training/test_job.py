"""Who fetches and who hashes what a step builds on, on two machines of two ranks."""

import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from fipo.distributed.bootstrap import World
from fipo.training.job import Job
from tests.waiting import free_port


class Ranks:
    """What `World` has of it, for ranks that are threads."""

    def __init__(self, size):
        self.barrier, self.items = threading.Barrier(size, timeout=600), [None] * size

    def world(self, rank, ranks_per_node):
        def gather(item):
            self.items[rank] = item
            self.barrier.wait()
            items = list(self.items)
            self.barrier.wait()
            return items

        return SimpleNamespace(
            is_main=rank == 0,
            local_rank=rank % ranks_per_node,
            barrier=self.barrier.wait,
            meet=self.barrier.wait,
            gather=gather,
        )


@pytest.mark.parametrize(("shared", "at_once"), [(True, 1), (False, 2)])
def test_one_download_and_one_hash_for_each_machine(tmp_path, shared, at_once):
    reads, running, most, lock = [], [0], [0], threading.Lock()
    together = threading.Barrier(at_once, timeout=600)

    def job(ranks, rank):
        folder = tmp_path / ("disk" if shared else f"disk-{rank // 2}")
        folder.mkdir(exist_ok=True)

        def read(step, name):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
                reads.append(rank)
            together.wait()  # as many as may fetch at the same time
            with lock:
                running[0] -= 1
            return folder / name

        config = SimpleNamespace(run_directory=folder)
        workspace: Any = SimpleNamespace(config=config, input=read, input_folder=lambda step, name: folder / name)
        world: Any = ranks.world(rank, 2)
        nothing: Any = None
        return Job(nothing, world, workspace, None, nothing)

    ranks = Ranks(4)
    found: list[Any] = [None] * 4

    def work(rank):
        found[rank] = job(ranks, rank).input("sft", "model")

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(reads) == [0, 2], "rank 0 of each machine, once"
    assert most[0] == at_once, "machines that share a disk do not write into one folder together"
    assert [path.parent.name for path in found] == (["disk"] * 4 if shared else ["disk-0"] * 2 + ["disk-1"] * 2)


def meets_late(rank, folder, port):
    """Rank 0 takes longer than a collective may."""
    limit, there = timedelta(seconds=10), f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=there, rank=rank, world_size=2, timeout=limit)
    world = World(rank, 2, rank, torch.device("cpu"))
    if world.is_main:
        time.sleep(15)
        (folder / "published").touch()
    world.meet()
    assert (folder / "published").exists()
    world.meet()
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_wait_longer_for_what_one_publishes_than_for_a_collective(tmp_path):
    spawn(meets_late, (tmp_path, free_port()), nprocs=2)
