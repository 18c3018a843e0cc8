"""`linear_log_probs` against log_softmax of full logits: time and memory of forward and backward.

    python -m benchmarks.log_probs [--json] [--tokens 8192] [--hidden 1024]

A Qwen2.5-like head: vocabulary 151,936, float32 on a CPU and bfloat16 on a GPU. The peer gives what ours gives,
log-probs with gradient and entropy without; `log_probs_only` is the same peer without entropy. Each runs in a process
of its own. The full size needs 16 GB of memory for the peer.

Ours makes four matrix products where the peer makes three, the price of not keeping the logits, and wins most of it
back by working in memory that is already there. On a busy machine compare CPU seconds, with OMP_NUM_THREADS=1.

On a GPU there is one peer more, `liger`, where it is installed: Liger's fused cross-entropy, which makes its gradients
in the forward pass, three products in all. That is for a loss that is a sum over tokens: a policy loss, whose weight of
a token is known when all log-probs are, cannot be put so, and there is no entropy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import DEVICE, context, peak_bytes, seconds
from fipo.algorithm.log_probs import linear_log_probs

VOCABULARY = 151936


def peer(hidden: Tensor, weight: Tensor, targets: Tensor, entropy: bool = True) -> tuple[Tensor, Tensor | None]:
    """All logits at once, by torch's own fused log_softmax; the entropy in place, so as not to waste memory."""
    log_p = (hidden @ weight.T).float().log_softmax(-1)
    log_probs = log_p.gather(-1, targets[:, None]).squeeze(-1)
    if not entropy:
        return log_probs, None
    with torch.no_grad():
        return log_probs, -log_p.exp().mul_(log_p).sum(-1)


def liger(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, None]:
    """Its sum of log-probs, as one."""
    from liger_kernel.ops.fused_linear_cross_entropy import (  # type: ignore[import-not-found]
        LigerFusedLinearCrossEntropyFunction,
    )

    result = LigerFusedLinearCrossEntropyFunction.apply(
        *(hidden, weight, targets, None, None, -100, 0.0, 0.0),
        *("sum", None, False, torch.float32),
    )
    return -(result[0] if isinstance(result, tuple) else result), None


METHODS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]] = {
    "ours": linear_log_probs,
    "peer": peer,
    "log_probs_only": lambda hidden, weight, targets: peer(hidden, weight, targets, entropy=False),
}
if DEVICE.type == "cuda" and find_spec("liger_kernel"):
    METHODS["liger"] = liger


def measure(method: str, tokens: int, width: int) -> dict[str, float]:
    """Time and memory of one forward and backward pass, and loss and gradient, to compare."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    hidden = torch.randn(tokens, width, device=DEVICE, dtype=dtype, requires_grad=True)
    weight = torch.empty(VOCABULARY, width, device=DEVICE, dtype=dtype).normal_(std=0.02).requires_grad_()
    targets = torch.randint(VOCABULARY, (tokens,), device=DEVICE)
    loss = torch.zeros(())

    def run(size: int) -> None:
        nonlocal loss
        hidden.grad = weight.grad = None
        loss = METHODS[method](hidden[:size], weight, targets[:size])[0].sum()
        loss.backward()

    run(tokens if DEVICE.type == "cuda" else 16)  # what is compiled once
    hidden.grad = weight.grad = None
    began, cpu_began = time.perf_counter(), time.process_time()
    peak = peak_bytes(lambda: run(tokens))
    elapsed, cpu_elapsed = time.perf_counter() - began, time.process_time() - cpu_began
    if DEVICE.type == "cuda":
        elapsed = median(seconds(lambda: run(tokens), 1) for _ in range(7))
    assert hidden.grad is not None
    norm = hidden.grad.float().norm().item()
    return {"seconds": elapsed, "cpu_seconds": cpu_elapsed, "bytes": peak, "loss": loss.item(), "grad_norm": norm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options.tokens, options.hidden)))
        return

    rows: dict[str, dict[str, float]] = {}
    print(f"{options.tokens} tokens, hidden {options.hidden}, vocabulary {VOCABULARY}, on {context()['machine']}")
    for method in METHODS:
        command = [sys.executable, "-m", "benchmarks.log_probs", "--method", method]
        command += ["--tokens", str(options.tokens), "--hidden", str(options.hidden)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:  # full logits may not fit
            print(f"  {method:15} {done.stderr.strip().splitlines()[-1][:150]}", flush=True)
            continue
        row = rows[method] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"  {method:15}{row['seconds']:9.3f} s (CPU {row['cpu_seconds']:.2f} s) {row['bytes'] / 2**30:8.2f} GiB   "
            f"loss {row['loss']:.6g}, gradient {row['grad_norm']:.6g}",
            flush=True,
        )
    result: dict[str, Any] = {"measured": rows, **context()}
    for peer_name, suffix in (("peer", ""), ("log_probs_only", "_without_entropy")):
        if peer_name in rows:
            for name, field in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
                result[name + suffix] = rows[peer_name][field] / rows["ours"][field]
            result["memory_ratio" + suffix] = rows["ours"]["bytes"] / rows[peer_name]["bytes"]
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
