"""Whether this project's Triton kernels run on a device; torch computes the same without them, slower."""

from __future__ import annotations

from functools import cache

import torch


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def kernel_fault(device: torch.device) -> str:
    """Why Triton's kernels do not run on this device, found out by running one once; empty where they do.

    They need Triton, and a C compiler with which Triton makes their launchers.
    """
    return tried(device)


@cache
def tried(device: torch.device) -> str:
    """Run one."""
    try:
        from fipo.algorithm.scan_triton import masked_reverse_scan

        one = torch.ones(1, 2, device=device)
        found = masked_reverse_scan(one, one.bool(), 1.0, None)
    except Exception as error:  # whatever it lacks: torch computes the same
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return "" if found.tolist() == [[1.5, 1.0]] else f"wrong sums: {found.tolist()}"
