"""Under torchrun, on one machine or several: `torchrun ... -m fipo.doctor.ranks`. Do collectives work, and how fast?"""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

from fipo.config import Distributed
from fipo.distributed.bootstrap import World, join_world
from fipo.doctor.workers import tell
from fipo.findings import Finding

TIMEOUT_SECONDS = 15.0
REPEATS = 3


def main() -> None:
    """Sum over all ranks; rank 0 tells."""
    with join_world(Distributed(timeout_seconds=TIMEOUT_SECONDS), seed=0) as world:
        finding = measure(world)
        if world.is_main:
            tell(finding)


def measure(world: World) -> Finding:
    """Whether the sum is right on every rank, and the bandwidth of the slowest; collective."""
    backend = "NCCL" if world.device.type == "cuda" else "gloo"
    if world.size == 1:
        return Finding("ranks", "not here", f"one rank; {backend} has nobody to speak to")
    numbers = (256 << 20) // 4 if world.device.type == "cuda" else (16 << 20) // 4
    tensor = torch.full((numbers,), float(world.rank + 1), device=world.device)
    dist.all_reduce(tensor)  # and connections are made
    right = bool((tensor == world.size * (world.size + 1) / 2).all())
    seconds = min(_once(tensor, world) for _ in range(REPEATS))
    slowest = float(world.max([seconds])[0])
    wrong = bool(world.max([not right])[0])
    # A ring sends each byte twice, but for one part in so many ranks.
    bandwidth = 2 * (world.size - 1) / world.size * tensor.numel() * 4 / slowest
    said = f"{world.size} ranks by {backend}: sums at {bandwidth / 1e9:.2f} GB/s a rank"
    return Finding("ranks", "failed" if wrong else "ok", f"{said}; they are wrong" if wrong else said)


def _once(tensor: torch.Tensor, world: World) -> float:
    world.barrier()
    began = time.perf_counter()
    dist.all_reduce(tensor)
    if world.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
