"""What the machine is, as far as no process has to be risked for it: devices, driver, compiler, packages, disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from fipo.check.look import Look
from fipo.findings import Finding

PACKAGES = ("torch", "triton", "transformers", "deepspeed", "vllm")
BYTES = 64 << 20
SLOW = 50e6
"""Bytes per second: below it the checkpoint of a model of 7 billion parameters, 84 GB, takes half an hour."""


def devices(look: Look) -> Iterator[Finding]:
    """GPUs with memory and driver, as nvidia-smi has them; else the cores."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = f"{len(os.sched_getaffinity(0))} cores, {memory / 2**30:.0f} GiB"
    asked = look.config.trainjob.gpus_per_node
    if shutil.which("nvidia-smi") is None:
        yield Finding(
            "devices",
            "not here",
            f"no GPU (no nvidia-smi); {cores}" + (f"; the recipe's TrainJob has {asked} a node" if asked else ""),
        )
        return
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip().splitlines()
        remedy = "the driver and the kernel's module must be of one version: restart the machine, or mend the driver"
        yield Finding("devices", "failed", f"nvidia-smi: {said[0] if said else 'no GPU'}; {cores}", remedy)
        return
    yield Finding("devices", "ok", f"{len(lines)} GPU(s): {lines[0]}; {cores}")


def compiler(look: Look) -> Iterator[Finding]:
    """A C compiler, with which Triton makes the launchers of its kernels."""
    found = next(
        (path for name in (os.environ.get("CC"), "gcc", "cc", "clang") if name and (path := shutil.which(name))), None
    )
    if found:
        yield Finding("compiler", "ok", found)
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "compiler",
            "warning",
            "no C compiler: Future-KL is computed by torch, and vLLM may not start",
            "apt-get install gcc libc6-dev",
        )
    else:
        yield Finding("compiler", "not here", "no C compiler; only GPUs need one")


def packages(look: Look) -> Iterator[Finding]:
    """Versions of what computes."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    yield Finding("packages", "ok", ", ".join(f"{name} {number}" for name, number in found.items()))


def disk(look: Look) -> Iterator[Finding]:
    """How fast the folder of the runs is written, flushed, and how much is free there."""
    folder = look.config.run.directory.absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        yield Finding("disk", "failed", f"{there} is no folder", "set run.directory to a folder that can be written to")
        return
    path = there / f".fipo-doctor-{os.getpid()}"
    block, began = os.urandom(1 << 20), time.perf_counter()
    try:
        with path.open("wb") as file:
            written = 0
            while written < BYTES and time.perf_counter() - began < 5.0:
                written += file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding("disk", "failed", f"{there}: {error}", "set run.directory to a folder that can be written to")
        return
    finally:
        path.unlink(missing_ok=True)
    speed, free = written / (time.perf_counter() - began), shutil.disk_usage(there).free
    said = f"{there}: {speed / 1e6:,.0f} MB/s, {free / 1e9:,.0f} GB free"
    yield Finding(
        "disk",
        "ok" if speed > SLOW else "warning",
        said,
        "" if speed > SLOW else "a faster disk: checkpoints wait for it",
    )
