"""Checkpoints as commits: safetensors shards, hashed and fsynced, then one atomic COMMIT file that names them all.

Each rank writes the part of each parameter that it holds (float32 weights and Adam's two moments, flat, with where the
part begins), so that nothing is gathered on a GPU, and any number of ranks and any ZeRO stage reads what any other
wrote, bit for bit; nothing is ever unpickled. Where an adapter is trained it holds that alone: the model's own weights
are the step's input, and do not change. A folder without a valid COMMIT is what a
crash left behind: it is ignored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fipo.distributed.bootstrap import World
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.random_state import set_random_state
from fipo.distributed.zero import MOMENTS
from fipo.errors import CheckpointError
from fipo.files import replacing, sha256_of, sync

COMMIT = "COMMIT.json"
EXTRA = "extra/"


@dataclass(frozen=True, slots=True)
class Commit:
    """What makes a folder of shards a checkpoint."""

    step: int
    optimizer_steps: int
    state: Mapping[str, Any]
    """Counters and cursors, JSON-serialisable."""
    score: float | None
    """Validation result, higher is better; None where it was not measured at this step."""
    files: Mapping[str, str]
    """SHA-256 (hex) of each shard, in the order of the ranks that wrote them."""

    @classmethod
    def parse(cls, text: bytes) -> Commit | None:
        """From the contents of a COMMIT file; None if it is damaged."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def verified(self, folder: Path, world: World) -> bool:
        """Whether all shards are what was written; collective: each rank reads its share, and all get one answer."""
        share = list(self.files.items())[world.rank :: world.size]
        return all(world.gather(all(_hash(folder / name) == digest for name, digest in share)))


def save_checkpoint(
    engine: TrainingEngine,
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    *,
    random_state: str,
    score: float | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write checkpoint `step`; collective over the ranks.

    Args:
        engine: whose weights and optimizer state to save.
        folder: where checkpoints live; on several nodes, a folder that all of them share.
        step: names the checkpoint and orders it.
        state: JSON-serialisable counters and cursors, returned by `load_checkpoint`; rank 0's is written.
        random_state: of this rank's generators.
        score: validation result of these weights, higher is better.
        extra: of this rank, kept beside its parts: what the loop needs in the middle of a step (`extra_of`).

    Raises:
        CheckpointError: on every rank, when one could not write (a full disk); what was written is gone.
    """
    world, target = engine.world, checkpoint_path(folder, step)
    shard = target / f"rank-{world.rank:05d}.safetensors"
    tensors, error = _tensors_of(engine, extra or {}), None
    if world.is_main:
        shutil.rmtree(target, ignore_errors=True)
    world.barrier()
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_file(tensors, shard, metadata={"random_state": random_state})
        digest = _flush_and_hash(shard)
    except (OSError, SafetensorError) as failure:
        error, digest = str(failure), ""
    written = world.gather((shard.name, digest, error))
    errors = [f"rank {rank}: {error}" for rank, (*_, error) in enumerate(written) if error]
    if world.is_main and not errors:
        files = {name: digest for name, digest, _ in written}
        commit = Commit(step, engine.steps_done, state, score, files)
        try:
            _write_commit(target / COMMIT, commit)
            sync(folder)
        except OSError as failure:
            errors = [str(failure)]
    [errors, *_] = world.gather(errors)
    if errors:
        if world.is_main:
            shutil.rmtree(target, ignore_errors=True)
        raise CheckpointError(f"checkpoint {target} could not be written: {'; '.join(errors)}")
    return target


def _tensors_of(engine: TrainingEngine, extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This rank's parts of weights and moments, and what is kept beside them; in the host's memory."""
    engine.create_moments()  # where no step has learned anything yet
    tensors = {
        f"{kind}/{name}@{start}": tensor.cpu().contiguous()
        for name, start, parts in engine.own_parts()
        for kind, tensor in parts.items()
    }
    return tensors | {f"{EXTRA}{name}": tensor.cpu().contiguous() for name, tensor in extra.items()}


def load_checkpoint(engine: TrainingEngine, checkpoint: Path, commit: Commit) -> None:
    """Restore a verified checkpoint; collective over the ranks.

    The random number generators continue too, unless another number of ranks wrote it.

    Raises:
        CheckpointError: it holds other parameters than the model.
    """
    world = engine.world
    shards = [safe_open(checkpoint / name, framework="pt") for name in commit.files]
    where: dict[str, list[tuple[int, safe_open, str]]] = {}
    for shard in shards:
        for key in shard.keys():  # noqa: SIM118 (no mapping)
            name, _, start = key.rpartition("@")
            if name:
                where.setdefault(name, []).append((int(start), shard, key))
    engine.null_step()  # Adam's moments exist after the first step only
    for index, (name, parameter) in enumerate(engine.trained_parameters()):
        if f"weight/{name}" not in where:
            raise CheckpointError(f"checkpoint {checkpoint}: no weights for {name}; it is of another model")
        shape = getattr(parameter, "ds_shape", parameter.shape)
        # One rank reads, so that the files are read once and not once a rank.
        tensors = {
            kind: _broadcast(where[f"{kind}/{name}"], shape, index % world.size, world) for kind in ("weight", *MOMENTS)
        }
        engine.set_parameter(parameter, tensors)
    engine.set_steps_done(commit.optimizer_steps)
    if len(shards) == world.size:
        set_random_state(shards[world.rank].metadata()["random_state"])
    world.barrier()


def extra_of(checkpoint: Path, commit: Commit) -> list[dict[str, Tensor]]:
    """What each rank that wrote a verified checkpoint has kept there as `extra`, in the order of the ranks."""
    found = []
    for name in commit.files:
        with safe_open(checkpoint / name, framework="pt") as shard:
            keys = [key for key in shard.keys() if key.startswith(EXTRA)]  # noqa: SIM118 (no mapping)
            found.append({key.removeprefix(EXTRA): shard.get_tensor(key) for key in keys})
    return found


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of checkpoint `step`."""
    return folder / f"step-{step:08d}"


def committed(folder: Path) -> dict[int, Commit]:
    """The checkpoints in `folder` by step, ascending; their shards are not verified."""
    commits = (Commit.parse(path.read_bytes()) for path in sorted(folder.glob(f"step-*/{COMMIT}")))
    return {commit.step: commit for commit in commits if commit}


def _write_commit(path: Path, commit: Commit) -> None:
    with replacing(path, durable=True) as unfinished:
        unfinished.write_text(json.dumps(asdict(commit), indent=1), encoding="utf-8")


def _broadcast(parts: list[tuple[int, safe_open, str]], shape: torch.Size, reader: int, world: World) -> Tensor:
    """The parts put together by one rank, for all."""
    whole = torch.empty(shape, dtype=torch.float32)
    if world.rank == reader:
        read = [shard.get_tensor(key) for _, shard, key in sorted(parts, key=lambda part: part[0])]
        torch.cat(read, out=whole.view(-1))
    return world.broadcast(whole, reader)


def _flush_and_hash(path: Path) -> str:
    sync(path)
    sync(path.parent)
    return sha256_of(path)


def _hash(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""
