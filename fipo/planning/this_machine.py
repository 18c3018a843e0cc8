"""What this machine is, as a plan sees it: its GPUs by what their driver says, or its cores by what they reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fipo.planning.hardware import GPUS, Assumptions, Gpu
from fipo.planning.memory import GIB

MOST_PROCESSES = 4
"""Of a machine without a GPU: see `distributed.processes`."""
_WIDTH, _COPIED = 1024, 64 << 20
_CORES = Assumptions(mfu=0.5, reserve_gib=1.0)
"""Of cores: matrix products of a model reach half of a large product's rate, and Python itself takes some memory."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one machine; a rank has one."""

    gpu: Gpu
    """Each of them; without a GPU the share of cores and memory that a rank gets."""
    count: int
    on_gpu: bool
    name: str
    """For people."""

    def for_each(self, ranks: int) -> Gpu:
        """What each of so many ranks has: a GPU, or its share of all cores and of the memory."""
        if self.on_gpu:
            return self.gpu
        own, share = self.gpu, self.count / ranks
        return replace(
            own, memory_gib=own.memory_gib * share, peak_flops=own.peak_flops * share,
            memory_bandwidth=own.memory_bandwidth * share,
        )  # fmt: skip

    @property
    def assumptions(self) -> Assumptions:
        """What is taken for given on it."""
        return Assumptions() if self.on_gpu else _CORES


def its_gpus() -> Devices | None:
    """By the first of them: memory as the driver has it, and the data sheet of its kind, or of the least known one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:  # a driver that hangs trains nothing
        return None
    lines = [line for line in done.stdout.splitlines() if "," in line]
    if done.returncode or not lines:
        return None
    name, mebibytes = (part.strip() for part in lines[0].rsplit(",", 1))
    words = name.lower().replace("-", " ").split()
    sheet = next((gpu for kind, gpu in GPUS.items() if kind in words), GPUS["l4"])
    gpu = replace(sheet, memory_gib=float(mebibytes) / 1024)
    return Devices(gpu, len(lines), True, f"{len(lines)} {name}, {gpu.memory_gib:.0f} GiB each")


def its_cores(precision: str = "auto") -> Devices:
    """Each of at most four ranks has its share of the cores' products, copies and memory.

    `precision`: as in `distributed.precision`; products in bf16 are many times faster, or slower, on some processors.
    """
    cores = len(os.sched_getaffinity(0))
    ranks = min(cores, MOST_PROCESSES)
    memory = memory_bytes() / GIB
    flops, bandwidth = _measured(bf16=precision == "bf16")
    share = cores / ranks
    own = Gpu(memory / ranks, flops * share, bandwidth / ranks, bandwidth / ranks, bandwidth / ranks, 0.0)
    speed = f"{flops * cores / 1e9:.0f} GFLOP/s{' in bf16' if precision == 'bf16' else ''}"
    return Devices(own, ranks, False, f"{cores} cores without a GPU, {memory:.0f} GiB, {speed}")


def memory_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Of the machine, or what its container may use of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    said = limit.read_text().strip() if limit.is_file() else ""
    return min(whole, int(said)) if said.isdigit() else whole


def _measured(*, bf16: bool) -> tuple[float, float]:
    """Operations per second of a core in a large product, and bytes per second copied; the best of three."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.ones(_WIDTH, _WIDTH, dtype=torch.bfloat16 if bf16 else torch.float32)
    block = torch.ones(_COPIED // 4)
    products, copies = [], []
    for _ in range(3):
        products.append(_seconds(lambda: a @ a))
        copies.append(_seconds(block.clone))
    torch.set_num_threads(threads)
    return 2 * _WIDTH**3 / min(products), 2 * _COPIED / min(copies)


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor: what else the machine does now says nothing of what it can do."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
