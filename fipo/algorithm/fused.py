"""Whether this project's Triton kernels run on a device; torch computes the same without them, slower."""

from __future__ import annotations

from functools import cache

import torch


def kernel_fault(device: torch.device) -> str:
    """Why Triton's kernels do not run on this device, found out by running them once; empty where they do.

    They need Triton, and a C compiler with which Triton makes their launchers.
    """
    return tried(device)


# What `torch.compiler.assume_constant_result` sets: it would import the compiler, seconds that every process would pay.
kernel_fault._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def tried(device: torch.device) -> str:
    """Run each once."""
    try:
        from fipo.algorithm.log_probs_triton import FusedLinearLogProbs
        from fipo.algorithm.scan_triton import masked_reverse_scan

        one = torch.ones(1, 2, device=device)
        found = masked_reverse_scan(one, one.bool(), 1.0, None)
        hidden, head = one.clone().requires_grad_(), torch.eye(2, device=device)
        target = torch.zeros(1, dtype=torch.int64, device=device)
        with torch.enable_grad():
            inputs = (hidden, head, None, target, (1.0, None, 1.0), 2)
            log_probs, _ = FusedLinearLogProbs.apply(*inputs)  # type: ignore[no-untyped-call]
            log_probs.sum().backward()
        gradient = None if hidden.grad is None else hidden.grad.tolist()
    except Exception as error:  # whatever it lacks: torch computes the same
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    if found.tolist() != [[1.5, 1.0]]:
        return f"wrong sums: {found.tolist()}"
    return "" if gradient == [[0.5, -0.5]] else f"wrong gradient: {gradient}"
