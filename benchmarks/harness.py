"""What the benchmarks of tensor code share: fair timing, peak memory, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

PLAIN_TRL = {
    "bf16": False,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "gradient_checkpointing": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
"""TRL's settings for a float32 run on the CPU that does nothing but train."""


class Context(TypedDict):
    """Where a result was measured."""

    machine: dict[str, str | int | None]
    versions: dict[str, str]


def seconds(call: Callable[[], object], repeats: int) -> float:
    """The least time of `repeats` calls: whatever else the machine does only adds to it."""
    least = float("inf")
    for _ in range(repeats):
        _synchronize()
        started = time.perf_counter()
        call()
        _synchronize()
        least = min(least, time.perf_counter() - started)
    return least


def peak_bytes(call: Callable[[], object]) -> int:
    """How far memory grows while `call` runs: that of the device, or of this process on a CPU (Linux)."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def context() -> Context:
    """The machine and the versions, for the JSON result."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    return {
        "machine": {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": version("torch")},
    }


def _synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
