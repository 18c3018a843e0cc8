"""One optimizer step on one rank and on two, same global batch: how much faster, and what communication takes.

    python -m benchmarks.scaling [--json] [--stage 1] [--steps 8]

Each rank has one core. A step of 64 rows (log-normal lengths, median 128, at most 1,024) is timed in three parts, of
each the median over steps, of the slowest rank: forward and backward of its own rows, waiting for the other, and
reduction, optimizer and gathering. Communication is the waiting, and the last part beyond that of a single rank (with
ZeRO each of two ranks has half the optimizer's work, so this is the lower bound).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import torch

from benchmarks.harness import context
from fipo.config import Architecture, Distributed, Model, Optimizer
from fipo.distributed.bootstrap import join_world
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.packing import plan_micro_batches
from fipo.models import load_model
from fipo.training.rows import Row, pack_rows

PARTS = ("compute", "wait", "update")


def make_rows() -> list[Row]:
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(np.log(128), 1.0, 64)).astype(int).clip(8, 1024)
    return [Row((5, 6, 7, 8), generator.integers(2, 1000, length - 4).astype(np.int32)) for length in lengths]


def accumulate_gradient(engine: TrainingEngine, rows: list[Row]) -> None:
    """Of the mean log-likelihood, as in SFT, but waiting for nobody."""
    responses = sum(len(row.response_ids) for row in rows)
    plan = plan_micro_batches(
        [len(row) for row in rows], ranks=engine.world.size, max_tokens=4096, attention_parity=engine.attention_parity
    )
    for indices in plan[engine.world.rank]:
        packed = pack_rows([rows[index] for index in indices], 0).to(engine.world.device)
        engine.backward(-engine.log_probs(packed)[0].sum() / responses)


def measure(stage: int, steps: int) -> None:
    """Print the median seconds of each part of a step, of the slowest rank."""
    architecture = Architecture(
        vocabulary=tuple(f"w{index}" for index in range(998)),
        hidden_size=128,
        intermediate_size=512,
        layers=2,
        attention_heads=4,
        key_value_heads=2,
        max_position_embeddings=1024,
    )
    settings, rows = Distributed(zero_stage=stage), make_rows()
    with join_world(settings, seed=0) as world:
        torch.set_num_threads(1)
        engine = TrainingEngine(load_model(Model(architecture=architecture)), Optimizer(), settings, world)
        times: list[list[float]] = []
        for _ in range(steps + 1):
            world.barrier()
            marks = [time.perf_counter()]
            accumulate_gradient(engine, rows)
            marks.append(time.perf_counter())
            world.barrier()
            marks.append(time.perf_counter())
            engine.step()
            marks.append(time.perf_counter())
            times.append([after - before for before, after in pairwise(marks)])
        mine = [statistics.median(column) for column in zip(*times[1:])]
        slowest = world.max(mine).tolist()
        whole = world.max([statistics.median(map(sum, times[1:]))])[0].item()
        if world.is_main:
            print(json.dumps({"step": whole, **dict(zip(PARTS, slowest))}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--stage", type=int, default=1, choices=range(4))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure(options.stage, options.steps)
        return
    measured = {}
    for ranks in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command += [
            "-m",
            "benchmarks.scaling",
            "--worker",
            "--stage",
            str(options.stage),
            "--steps",
            str(options.steps),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        measured[ranks] = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
        parts = "   ".join(f"{part} {measured[ranks][part]:.3f} s" for part in PARTS)
        print(f"  {ranks} rank(s): {measured[ranks]['step']:.3f} s a step   {parts}", flush=True)
    one, two = measured[1], measured[2]
    communication = two["wait"] + max(0.0, two["update"] - one["update"])
    result = {
        "ratio": one["step"] / two["step"],
        "compute_ratio": one["compute"] / two["compute"],
        "communication_seconds": communication,
        "communication_fraction": communication / two["step"],
        "stage": options.stage,
        "measured": measured,
        **context(),
    }
    print(
        f"  {result['ratio']:.2f} times faster; compute alone {result['compute_ratio']:.2f}; "
        f"communication {result['communication_fraction']:.1%} of a step"
    )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
