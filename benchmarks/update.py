"""A policy update of a language model on one device: tokens a second, the share of its peak that they are, memory.

    python -m benchmarks.update [--json] [--model 1.7B] [--tokens 32768] [--checkpointing]

A Qwen3 of the given size with random weights in the trainer's own engine (bfloat16 with float32 sums and masters on a
GPU), on packed rows of log-normal lengths: forward, FIPO's loss, backward; and the optimizer's step by itself.

- `plain`: the model's layers as transformers has them.
- `compiled`: as the trainer does it on a GPU (`compile_layers`), once for all lengths.

The operations are those that learning needs, as papers count them (MFU): 6 a weight and token, and causal attention's
12 a channel, token and token looked at; activations that are computed again do not count. The peak is that of a large
matrix product in the same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from benchmarks.harness import DEVICE, context, seconds
from fipo.algorithm.loss import policy_loss
from fipo.algorithm.options import LossOptions
from fipo.batch import PackedTokens
from fipo.config import Distributed, Optimizer
from fipo.distributed.bootstrap import join_world
from fipo.distributed.engine import TrainingEngine
from fipo.training.rows import Row, pack_rows

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "1.7B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
}
VOCABULARY = {"tiny": 1024}


def make_model(size: str) -> PreTrainedModel:
    heads = SIZES[size]["num_attention_heads"]
    config = Qwen3Config(
        **SIZES[size],
        vocab_size=VOCABULARY.get(size, 151936),
        num_key_value_heads=max(1, heads // 2),
        head_dim=128 if size != "tiny" else 32,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
    with torch.device(DEVICE):
        torch.set_default_dtype(torch.bfloat16 if DEVICE.type == "cuda" else torch.float32)
        model = Qwen3ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model


VARIANTS = ("plain", "compiled")


def make_rows(tokens: int, longest: int) -> PackedTokens:
    """Rows of log-normal lengths that fill `tokens` exactly."""
    generator, lengths = np.random.default_rng(0), [longest]
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(left, int(np.exp(generator.normal(np.log(longest / 8), 0.8)).clip(16, longest))))
    return pack_rows(
        [Row((5, 6), generator.integers(7, 1000, max(1, length - 2)).astype(np.int32)) for length in lengths], 0
    ).to(DEVICE)


def operations(model: PreTrainedModel, packed: PackedTokens) -> float:
    """Floating-point operations of forward and backward pass."""
    config = model.config
    matrices = sum(one.numel() for one in model.parameters() if one.ndim > 1)  # the head's is the embedding's
    looked_at = sum(length**2 / 2 for length in packed.lengths)
    channels = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    return float(6 * matrices * sum(packed.lengths) + 12 * channels * looked_at)


def matrix_peak() -> float:
    """Operations a second of a large matrix product."""
    size, dtype = (8192, torch.bfloat16) if DEVICE.type == "cuda" else (512, torch.float32)
    a, b = torch.randn(2, size, size, device=DEVICE, dtype=dtype).unbind()
    return 2.0 * float(size) ** 3 / seconds(lambda: a @ b, 10)


def measure(variant: str, options: argparse.Namespace) -> dict[str, float]:
    settings = Distributed(
        zero_stage=1, activation_checkpointing=options.checkpointing, compile_layers=variant == "compiled"
    )
    packed, reached = make_rows(options.tokens, options.longest), matrix_peak()
    with join_world(settings, seed=0) as world:
        torch.set_num_threads(1)
        model = make_model(options.model)
        engine = TrainingEngine(model, Optimizer(), settings, world)
        advantages = torch.randn(packed.input_ids.shape, device=DEVICE)
        old: Tensor | None = None

        def update() -> Tensor:
            nonlocal old
            log_probs, _ = engine.log_probs(packed)
            old = log_probs.detach().clone() if old is None else old
            output = policy_loss(
                LossOptions(),
                log_probs,
                old,
                advantages,
                packed.response_mask,
                num_loss_tokens=float(log_probs.numel()),
            )
            engine.backward(output.loss)
            return output.loss

        began = time.perf_counter()
        loss = float(update())
        first = time.perf_counter() - began
        norm = engine.step().grad_norm
        update()
        engine.step()
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = [seconds(update, 1) for _ in range(options.repeats)]
        step = seconds(engine.step, 1)
        per_second = operations(model, packed) / median(times)
        peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
    return {
        "seconds": median(times),
        "tokens_per_second": sum(packed.lengths) / median(times),
        "operations_per_second": per_second,
        "matrix_peak": reached,
        "mfu": per_second / reached,
        "first_seconds": first,
        "step_seconds": step,
        "peak_gib": peak,
        "loss": loss,
        "grad_norm": norm,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--model", choices=SIZES, default="1.7B" if DEVICE.type == "cuda" else "tiny")
    parser.add_argument("--tokens", type=int, default=32768 if DEVICE.type == "cuda" else 512)
    parser.add_argument("--longest", type=int, default=8192 if DEVICE.type == "cuda" else 256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true", help="keep only each layer's input")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of the two, separated by commas")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options)))
        return
    rows: dict[str, dict[str, float | str]] = {}
    for variant in options.variants.split(","):
        command = [sys.executable, "-m", "benchmarks.update", *sys.argv[1:], "--variant", variant]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:  # one that does not run here, or does not fit, leaves the others theirs
            said = next(iter(done.stderr.strip().splitlines()[::-1]), "")[-300:]
            rows[variant] = {"failed": said}
            print(f"  {variant:10}{said}", flush=True)
            continue
        row = rows[variant] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"  {variant:10}{row['tokens_per_second']:9.0f} tokens/s  MFU {row['mfu']:6.1%}  {row['peak_gib']:6.1f} GiB"
            f"  first {row['first_seconds']:.1f} s, step {row['step_seconds']:.2f} s, loss {row['loss']:.5f}, "
            f"gradient {row['grad_norm']:.5f}",
            flush=True,
        )
    if options.json:
        what = {"model": options.model, "tokens": options.tokens, "checkpointing": options.checkpointing}
        print(json.dumps({**what, "measured": rows, **context()}))


if __name__ == "__main__":
    main()
