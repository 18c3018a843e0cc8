"""Checkpoints as commits: safetensors shards, hashed and fsynced, then one atomic COMMIT file that names them all.

The layout is per parameter (float32 weights and Adam's two moments, spread over the ranks' files), so that any
number of ranks and any ZeRO stage reads what any other wrote, bit for bit, and nothing is ever unpickled. A folder
without a valid COMMIT is what a crash left behind: it is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fipo.distributed.engine import TrainingEngine
from fipo.errors import CheckpointError

COMMIT = "COMMIT.json"
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(engine: TrainingEngine, folder: Path, step: int, state: Mapping[str, Any], *, keep: int) -> Path:
    """Write checkpoint `step` and remove all but the newest `keep`; collective over the ranks.

    Args:
        engine: whose weights and optimizer state to save.
        folder: where checkpoints live; on several nodes, a folder that all of them share.
        step: names the checkpoint and orders it.
        state: JSON-serialisable counters and cursors, returned by `load_checkpoint`; rank 0's is written.
        keep: how many committed checkpoints stay.
    """
    world, target = engine.world, folder / f"step-{step:08d}"
    if world.is_main:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
    world.barrier()
    shard = target / f"rank-{world.rank:05d}.safetensors"
    save_file(dict(_owned_tensors(engine)), shard)
    files = dict(world.gather((shard.name, _flush_and_hash(shard))))
    if world.is_main:
        commit = {"step": step, "optimizer_steps": engine.steps_done, "state": dict(state), "files": files}
        write_atomically(target / COMMIT, json.dumps(commit, indent=1).encode())
        for old in _committed(folder)[:-keep]:
            shutil.rmtree(old)
    world.barrier()
    return target


def load_checkpoint(engine: TrainingEngine, folder: Path, *, at_most: int) -> dict[str, Any] | None:
    """Restore the newest undamaged checkpoint of at most step `at_most`; collective over the ranks.

    Returns:
        The `state` that it was saved with, or None when there is no checkpoint: the engine is as it was.

    Raises:
        CheckpointError: the checkpoint holds other parameters than the model.
    """
    world = engine.world
    [chosen, *_] = world.gather(_newest_valid(folder, at_most) if world.is_main else None)
    if chosen is None:
        return None
    commit = json.loads((chosen / COMMIT).read_bytes())
    shards = [safe_open(chosen / name, framework="pt") for name in commit["files"]]
    where = {key: shard for shard in shards for key in shard.keys()}  # noqa: SIM118 (no mapping)
    engine.null_step()  # Adam's moments exist after the first step only
    for name, parameter in engine.model.named_parameters():
        if f"weight/{name}" not in where:
            raise CheckpointError(f"checkpoint {chosen}: no weights for {name}; it is of another model")
        tensors = {kind: where[f"{kind}/{name}"].get_tensor(f"{kind}/{name}") for kind in ("weight", *MOMENTS)}
        engine.set_parameter(parameter, tensors)
    engine.set_steps_done(commit["optimizer_steps"])
    world.barrier()
    state: dict[str, Any] = commit["state"]
    return state


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _fsync_folder(path.parent)


def _owned_tensors(engine: TrainingEngine) -> list[tuple[str, torch.Tensor]]:
    """This rank's share of all tensors; every rank takes part in gathering each."""
    owned = []
    for index, (name, parameter) in enumerate(engine.model.named_parameters()):
        tensors = engine.get_parameter(parameter)
        if index % engine.world.size == engine.world.rank:
            owned += [(f"{kind}/{name}", tensor.cpu().contiguous()) for kind, tensor in tensors.items()]
    return owned


def _newest_valid(folder: Path, at_most: int) -> Path | None:
    for path in reversed(_committed(folder)):
        commit = json.loads((path / COMMIT).read_bytes())
        if commit["step"] <= at_most and all(_hash(path / name) == digest for name, digest in commit["files"].items()):
            return path
    return None


def _committed(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"step-*/{COMMIT}"))


def _flush_and_hash(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    _fsync_folder(path.parent)
    return _hash(path)


def _hash(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
