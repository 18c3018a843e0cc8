"""Memory of one 20,480-token row: what each measure saves, and what it costs in time.

    python -m benchmarks.long_rows [--json] [--tokens 20480]

Forward and backward of a small model (2 layers, 64 wide, feed-forward layers of 1,024, vocabulary 16,384) on one row.
Each variant has a process of its own and adds to the one before: all logits at once; `linear_log_probs`, which never
holds them; `distributed.activation_checkpointing`; `distributed.tiled_mlp`; and the row shared by two ranks
(`distributed.sequence_parallel`), of which the larger counts. Memory is how far a process grows above its weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import DEVICE, context, peak_bytes
from fipo.batch import PackedTokens
from fipo.config import Architecture, Distributed, Model, Optimizer
from fipo.distributed.bootstrap import join_world
from fipo.distributed.engine import TrainingEngine
from fipo.models import load_model
from fipo.training.rows import Row, pack_rows

VOCABULARY = 16384
SETTINGS = {
    "all_logits": Distributed(zero_stage=2),
    "linear_log_probs": Distributed(zero_stage=2),
    "activation_checkpointing": Distributed(zero_stage=2, activation_checkpointing=True),
    "tiled_mlp": Distributed(zero_stage=2, activation_checkpointing=True, tiled_mlp=True),
    "sequence_parallel": Distributed(zero_stage=2, activation_checkpointing=True, tiled_mlp=True, sequence_parallel=2),
}


def measure(variant: str, tokens: int) -> None:
    """Print peak bytes, seconds and gradient norm of this rank."""
    architecture = Architecture(
        vocabulary=tuple(f"w{index}" for index in range(VOCABULARY - 2)),
        hidden_size=64,
        intermediate_size=1024,
        layers=2,
        attention_heads=2,
        key_value_heads=1,
        max_position_embeddings=tokens,
    )
    generator = np.random.default_rng(0)
    row = Row((5, 6), generator.integers(2, VOCABULARY, tokens - 2).astype(np.int32))
    with join_world(SETTINGS[variant], seed=0) as world:
        torch.set_num_threads(1)
        engine = TrainingEngine(load_model(Model(architecture=architecture)), Optimizer(), SETTINGS[variant], world)

        def run(length: int) -> None:
            packed = pack_rows([Row(row.prompt_ids, row.response_ids[: length - 2])], 0, multiple_of=world.size)
            shard = engine.sequence.shard(packed).to(world.device)
            log_probs = _all_logits(engine, shard) if variant == "all_logits" else engine.log_probs(shard)[0]
            engine.backward(-log_probs.sum() / (length - 2))

        run(64)
        engine.step()
        began = time.perf_counter()
        peak = peak_bytes(lambda: run(tokens))
        elapsed, norm = time.perf_counter() - began, engine.step().grad_norm
        print(json.dumps({"bytes": peak, "seconds": elapsed, "grad_norm": norm}), flush=True)


def _all_logits(engine: TrainingEngine, shard: PackedTokens) -> Tensor:
    """What a trainer does that keeps to transformers: logits of the whole row, then cross-entropy."""
    module = engine._zero.engine.module.model
    ends = torch.tensor([0, shard.input_ids.shape[1]], dtype=torch.int32, device=DEVICE)
    logits = module(
        shard.input_ids,
        position_ids=shard.position_ids,
        attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool, device=DEVICE),
        use_cache=False,
        **{"cu_seq_lens_q": ends, "max_length_q": shard.input_ids.shape[1]},
    ).logits
    wanted = shard.response_mask
    return -torch.nn.functional.cross_entropy(logits[wanted].float(), shard.targets[wanted], reduction="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--tokens", type=int, default=20480)
    parser.add_argument("--variant", choices=SETTINGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        measure(options.variant, options.tokens)
        return
    measured = {}
    for variant, distributed in SETTINGS.items():
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(distributed.sequence_parallel), "-m", "benchmarks.long_rows"]
        command += ["--variant", variant, "--tokens", str(options.tokens)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        ranks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        measured[variant] = max(ranks, key=lambda rank: rank["bytes"])
        figures = measured[variant]
        print(
            f"  {variant:26}{figures['bytes'] / 2**20:8.0f} MiB {figures['seconds']:8.1f} s   "
            f"gradient norm {figures['grad_norm']:.6g}",
            flush=True,
        )
    first, *_, last = measured.values()
    spread = max(figures["grad_norm"] for figures in measured.values()) / first["grad_norm"] - 1
    if abs(spread) > (1e-4 if DEVICE.type == "cpu" else 5e-2):
        sys.exit(f"gradient norms differ by {spread:.1e}")
    result = {
        "memory_ratio": last["bytes"] / first["bytes"],
        "tokens": options.tokens,
        "measured": measured,
        **context(),
    }
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
