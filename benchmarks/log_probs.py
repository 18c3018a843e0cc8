"""`linear_log_probs` against log_softmax of full logits: time and memory of forward and backward.

    python -m benchmarks.log_probs [--json] [--tokens 8192]

A Qwen2.5-like head: hidden 1,024, vocabulary 151,936, float32 on a CPU and bfloat16 on a GPU. The peer gives what ours
gives, log-probs with gradient and entropy without; `log_probs_only` is the same peer without entropy. Each runs in a
process of its own. The full size needs 16 GB of memory for the peer.

Ours makes four matrix products where the peer makes three, the price of not keeping the logits, and wins most of it
back by working in memory that is already there. On a busy machine compare CPU seconds, with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import DEVICE, context, peak_bytes
from fipo.algorithm.log_probs import linear_log_probs

HIDDEN, VOCABULARY = 1024, 151936


def peer(hidden: Tensor, weight: Tensor, targets: Tensor, entropy: bool = True) -> tuple[Tensor, Tensor | None]:
    """All logits at once, by torch's own fused log_softmax; the entropy in place, so as not to waste memory."""
    log_p = (hidden @ weight.T).float().log_softmax(-1)
    log_probs = log_p.gather(-1, targets[:, None]).squeeze(-1)
    if not entropy:
        return log_probs, None
    with torch.no_grad():
        return log_probs, -log_p.exp().mul_(log_p).sum(-1)


METHODS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]] = {
    "ours": linear_log_probs,
    "peer": peer,
    "log_probs_only": lambda hidden, weight, targets: peer(hidden, weight, targets, entropy=False),
}


def measure(method: str, tokens: int) -> dict[str, float]:
    """Time and memory of one forward and backward pass, and loss and gradient, to compare."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    hidden = torch.randn(tokens, HIDDEN, device=DEVICE, dtype=dtype, requires_grad=True)
    weight = torch.empty(VOCABULARY, HIDDEN, device=DEVICE, dtype=dtype).normal_(std=0.02).requires_grad_()
    targets = torch.randint(VOCABULARY, (tokens,), device=DEVICE)
    loss = torch.zeros(())

    def forget() -> None:
        hidden.grad = weight.grad = None

    def run(size: int) -> None:
        nonlocal loss
        forget()
        loss = METHODS[method](hidden[:size], weight, targets[:size])[0].sum()
        loss.backward()

    run(16)
    forget()
    began, cpu_began = time.perf_counter(), time.process_time()
    peak = peak_bytes(lambda: run(tokens))
    elapsed, cpu_elapsed = time.perf_counter() - began, time.process_time() - cpu_began
    assert hidden.grad is not None
    norm = hidden.grad.float().norm().item()
    return {"seconds": elapsed, "cpu_seconds": cpu_elapsed, "bytes": peak, "loss": loss.item(), "grad_norm": norm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options.tokens)))
        return

    rows = {}
    for method in METHODS:
        command = [sys.executable, "-m", "benchmarks.log_probs", "--method", method, "--tokens", str(options.tokens)]
        rows[method] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    ours, full, plain = rows.values()
    print(f"{options.tokens} tokens, hidden {HIDDEN}, vocabulary {VOCABULARY}, on {context()['machine']}")
    for method, row in rows.items():
        print(
            f"  {method:15}{row['seconds']:9.2f} s (CPU {row['cpu_seconds']:.2f} s) {row['bytes'] / 2**30:8.2f} GiB   "
            f"loss {row['loss']:.6g}, gradient {row['grad_norm']:.6g}"
        )
    result = {
        "ratio": full["seconds"] / ours["seconds"],
        "memory_ratio": ours["bytes"] / full["bytes"],
        "cpu_ratio": full["cpu_seconds"] / ours["cpu_seconds"],
        "ratio_without_entropy": plain["seconds"] / ours["seconds"],
        "cpu_ratio_without_entropy": plain["cpu_seconds"] / ours["cpu_seconds"],
        "memory_ratio_without_entropy": ours["bytes"] / plain["bytes"],
        "measured": rows,
        **context(),
    }
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
