"""Run by test_shards.py under torchrun with a model's folder: what a rank holds when ZeRO-3 has taken its parts.

First of weights that stay in their files, then of a copy in each rank. Four nodes of one rank are
`torchrun --nnodes 4 --nproc-per-node 1 ...` four times.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from fipo.config import Distributed, Model, Optimizer
from fipo.distributed import zero
from fipo.distributed.bootstrap import join_world
from fipo.distributed.checkpoints import save_checkpoint
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.random_state import random_state
from fipo.models import load_model
from fipo.training.rows import Row
from fipo.training.sft import cross_entropy


def own_mib():
    """Memory that no other process shares: not what is mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main(folder):
    settings = Distributed(zero_stage=3, precision="bf16", timeout_seconds=120)
    with join_world(settings, seed=0) as world:
        for way in ("stored", "whole"):
            for one in world.gather([way, world.rank, *train(folder, way, settings, world)]):
                if world.is_main:
                    print(json.dumps(one), flush=True)


def train(folder, way, settings, world):
    """MiB when the model is loaded and when it is cut, two updates' losses, MiB of this rank's file of a checkpoint."""
    before, held, cut = own_mib(), [], zero.partition

    def watched(*arguments):
        held.append(own_mib() - before)
        cut(*arguments)
        held.append(own_mib() - before)

    zero.partition = watched
    model = load_model(Model(name_or_path=folder), dtype=torch.bfloat16, stored=way == "stored")
    if way == "whole":  # as it was: a copy of its own
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    engine = TrainingEngine(model, Optimizer(learning_rate=1e-3, warmup_steps=0), settings, world)
    zero.partition = cut
    rows = [Row([2, 3], torch.arange(2, 12).int().numpy()), Row([4], torch.arange(20, 40).int().numpy())]
    losses = []
    for _ in range(2):
        losses.append(cross_entropy(engine, rows, 0, 64, learn=True))
        engine.step()
    with tempfile.TemporaryDirectory() as unshared:
        path = world.gather(unshared)[0]
        target = save_checkpoint(engine, Path(path), 2, {}, random_state=random_state())
        written = (target / f"rank-{world.rank:05d}.safetensors").stat().st_size / 2**20
        world.barrier()
    return held, losses, written


if __name__ == "__main__":
    main(*sys.argv[1:])
