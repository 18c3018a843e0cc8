"""Future-KL against the paper's own listing: how much faster, and whether the cost stays linear in the length.

    python -m benchmarks.future_kl [--json]

The listing sums over all later tokens, in chunks of 128 columns of the matrix of decays: quadratic in the length.
Both compute the same [8, 20480] float32 case in one run, and their results are compared.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor

from benchmarks.harness import DEVICE, context, seconds
from fipo.algorithm.future_kl import future_kl

BATCH, TIME, SHORT, HALF_LIFE = 8, 20480, 1024, 32.0


def listing(log_ratio: Tensor, mask: Tensor, half_life: float, chunk: int = 128) -> Tensor:
    """The definition, with the matrix gamma^(k - t) made chunk by chunk."""
    time = log_ratio.shape[1]
    position = torch.arange(time, device=log_ratio.device)
    gamma = torch.tensor(2.0 ** (-1.0 / half_life), device=log_ratio.device)
    masked = log_ratio * mask
    total = torch.zeros_like(log_ratio)
    for start in range(0, time, chunk):
        later = position[start : start + chunk]
        distance = later - position[:, None]
        decay = torch.pow(gamma, distance.clamp(min=0)) * (distance >= 0)
        total += masked[:, start : start + chunk] @ decay.T
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()

    torch.manual_seed(0)
    log_ratio = torch.randn(BATCH, TIME, device=DEVICE)
    mask = torch.rand(BATCH, TIME, device=DEVICE) < 0.9
    packed = (torch.rand(BATCH, TIME, device=DEVICE) < 1e-3).cumsum(-1)
    head = (log_ratio[:, :SHORT].contiguous(), mask[:, :SHORT].contiguous())

    expected, actual = listing(log_ratio, mask, HALF_LIFE), future_kl(log_ratio, mask, half_life=HALF_LIFE)
    error = ((actual - expected).abs().max() / expected.abs().max()).item()
    ours = seconds(lambda: future_kl(log_ratio, mask, half_life=HALF_LIFE), 50)
    ours_packed = seconds(lambda: future_kl(log_ratio, mask, half_life=HALF_LIFE, segment_ids=packed), 20)
    ours_short = seconds(lambda: future_kl(*head, half_life=HALF_LIFE), 50)
    peer = seconds(lambda: listing(log_ratio, mask, HALF_LIFE), 2)

    result = {
        "ratio": peer / ours,
        "packed_ratio": peer / ours_packed,
        "time_per_token_ratio": (ours / TIME) / (ours_short / SHORT),
        "seconds": {"ours": ours, "ours_packed": ours_packed, "ours_at_1024": ours_short, "listing": peer},
        "largest_relative_difference": error,
        "shape": [BATCH, TIME],
        **context(),
    }
    print(f"[{BATCH}, {TIME}] float32, half-life {HALF_LIFE:g}, on {result['machine']['device']}")
    print(f"  paper's listing {1e3 * peer:10.2f} ms")
    print(f"  future_kl       {1e3 * ours:10.2f} ms   {result['ratio']:8.0f} times faster, {error:.0e} apart")
    print(f"  packed rows     {1e3 * ours_packed:10.2f} ms   {result['packed_ratio']:8.0f} times faster")
    print(f"  time a token, at {TIME} over at {SHORT}: {result['time_per_token_ratio']:.2f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
