"""The memory that `fipo plan` predicts beside what training takes, on small models on a CPU.

    python -m benchmarks.planning [--json]

Each case takes two optimizer steps of two full micro-batches in a process of its own, after a tiny model has been
through every module, and measures how far the process grew (Linux). The cases are chosen so that each has another term
of the formula as its largest.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
from importlib import import_module
from typing import Any

import numpy as np
import torch

from benchmarks.harness import context, peak_bytes
from fipo.config import Config
from fipo.models import load_model
from fipo.planning.memory import Layout, memory_of
from fipo.planning.model import shape_of

M_MMAP_THRESHOLD = -3
CASES: dict[str, dict[str, Any]] = {
    "layers": {"hidden": 256, "inner": 1024, "layers": 8, "vocabulary": 1000, "tokens": 1024},
    "vocabulary": {"hidden": 128, "inner": 256, "layers": 1, "vocabulary": 24000, "tokens": 1024},
    "weights": {"hidden": 768, "inner": 3072, "layers": 4, "vocabulary": 1000, "tokens": 128},
    "stage 0": {"hidden": 768, "inner": 3072, "layers": 4, "vocabulary": 1000, "tokens": 128, "zero_stage": 0},
    "stage 2": {"hidden": 768, "inner": 3072, "layers": 4, "vocabulary": 1000, "tokens": 128, "zero_stage": 2},
    "checkpointing": {
        **{"hidden": 256, "inner": 1024, "layers": 8, "vocabulary": 1000, "tokens": 2048},
        "activation_checkpointing": True,
    },
    "tiled": {"hidden": 256, "inner": 4096, "layers": 3, "vocabulary": 1000, "tokens": 2048, "tiled_mlp": True},
}


def settings(
    *, hidden: int, inner: int, layers: int, vocabulary: int, tokens: int, zero_stage: int = 1, **distributed: bool
) -> Config:
    source = {"generator": {}, "limit": 1}
    architecture = {"vocabulary": [f"w{index}" for index in range(vocabulary - 2)], "hidden_size": hidden}
    architecture |= {"intermediate_size": inner, "layers": layers, "attention_heads": 8, "key_value_heads": 4}
    return Config.model_validate(
        {
            "data": {"train": [source], "benchmarks": {"none": source}, "max_prompt_tokens": 2},
            "model": {"architecture": architecture},
            "train": {"max_tokens_per_micro_batch": tokens},
            "rollout": {"max_response_tokens": tokens // 4 - 2, "max_batch_tokens": tokens},
            "distributed": {"precision": "fp32", "zero_stage": zero_stage, **distributed},
        }
    )


def train(config: Config, world: Any) -> None:
    from fipo.distributed.engine import TrainingEngine
    from fipo.training.rows import Row, pack_rows

    engine = TrainingEngine(load_model(config.model), config.train, config.distributed, world)
    response = np.zeros(config.rollout.max_response_tokens, dtype=np.int32)
    for _ in range(2):
        for _ in range(2):
            log_probs, _ = engine.log_probs(pack_rows([Row((2, 3), response)] * 4, 0))
            engine.backward(-log_probs.sum() / response.size)
            del log_probs
        engine.step()


def measure(name: str) -> dict[str, float]:
    """Predicted and measured bytes."""
    from fipo.distributed.bootstrap import join_world

    config = settings(**CASES[name])
    shape = shape_of(config.model)
    memory = memory_of(shape, Layout.of(config, shape, ranks=1, on_gpu=False), config)
    with join_world(config.distributed, seed=0) as world:
        torch.set_num_threads(1)
        train(settings(hidden=16, inner=16, layers=1, vocabulary=16, tokens=32), world)
        measured = peak_bytes(lambda: train(config, world))
    predicted = max(size for phase, size in memory.phases.items() if phase != "generation")
    return {"predicted": predicted, "measured": measured, "error": predicted / measured - 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    # What is freed goes back to the system at once, so that resident memory is memory in use.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
    torch.set_num_threads(1)
    import_module("fipo.distributed.engine")
    rows = {}
    print(f"{'MiB':16}{'predicted':>10}{'measured':>10}{'error':>8}")
    for name in options.case or CASES:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            rows[name] = row = pool.apply(measure, (name,))
        predicted, measured = row["predicted"] / 2**20, row["measured"] / 2**20
        print(f"{name:16}{predicted:10.0f}{measured:10.0f}{row['error']:8.1%}", flush=True)
    if options.json:
        largest = max(abs(row["error"]) for row in rows.values())
        print(json.dumps({"largest_error": largest, "measured": rows, **context()}))


if __name__ == "__main__":
    main()
