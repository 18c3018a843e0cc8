"""`python -m fipo.doctor.kernels`: this machine's kernels against torch's plain ones, and what they reach."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from fipo.algorithm.fused import kernel_fault
from fipo.algorithm.scan import reverse_scan
from fipo.distributed.packed_attention import packed_attention
from fipo.doctor.workers import tell
from fipo.findings import Finding


def main() -> None:
    """Try each on the device that training would take."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tell(_scan(device))
    tell(_attention(device))
    tell(_speed(device))


def _scan(device: torch.device) -> Finding:
    """Future-KL's recurrence by Triton, against torch in float64."""
    if device.type == "cpu":
        return Finding("Future-KL", "not here", "no GPU: torch computes it, and no kernel is needed")
    if fault := kernel_fault(device):
        return Finding(
            "Future-KL",
            "warning",
            f"Triton's kernels do not run ({fault}); torch computes it and the log-probs, slower",
            "apt-get install gcc libc6-dev",
        )
    from fipo.algorithm.scan_triton import masked_reverse_scan

    x = torch.randn(4, 20_480, device=device)
    found = masked_reverse_scan(x, torch.ones_like(x, dtype=torch.bool), 32.0, None)
    apart = float((found.double() - reverse_scan(x.double(), 2.0 ** (-1.0 / 32.0))).abs().max())
    return Finding(
        "Future-KL", "ok" if apart < 1e-4 else "failed", f"Triton's kernel is {apart:.1e} from torch in float64"
    )


def _attention(device: torch.device) -> Finding:
    """Attention over a packed row of two sequences, against each alone."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    lengths = [48, 80]
    query, key, value = (torch.randn(1, heads, sum(lengths), 64, device=device, dtype=dtype) for heads in (4, 2, 2))
    ends = torch.tensor([0, 48, 128], dtype=torch.int32, device=device)
    layer = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, True  # type: ignore[assignment]  # what transformers' layers have
    found, _ = packed_attention(layer, query, key, value, None, cu_seq_lens_q=ends, max_length_q=80)
    parts = [one.float().split(lengths, dim=2) for one in (query, key, value)]
    alone = [
        scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True) for q, k, v in zip(*parts, strict=True)
    ]
    apart = float((found.float() - torch.cat(alone, dim=2).transpose(1, 2)).abs().max())
    kernel = "FlashAttention over packed rows" if device.type == "cuda" else "attention over packed rows"
    return Finding(
        "attention",
        "ok" if apart < (0.03 if device.type == "cuda" else 1e-4) else "failed",
        f"{kernel} is {apart:.1e} from each sequence alone",
    )


def _speed(device: torch.device) -> Finding:
    """Matrix products and copies: what the plan's peaks are to be held against."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a = torch.randn(size, size, device=device, dtype=dtype)
    flops = 2 * size**3 / _seconds(lambda: a @ a, device)
    bandwidth = 2 * a.numel() * a.element_size() / _seconds(lambda: a.clone(), device)
    return Finding(
        "speed",
        "ok",
        f"{str(dtype).removeprefix('torch.')} products {flops / 1e12:.3g} TFLOP/s, copies {bandwidth / 1e9:.3g} GB/s",
    )


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The quickest of some, on the device."""
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


if __name__ == "__main__":
    main()
