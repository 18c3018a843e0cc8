"""When a training loop saves, stops and resumes: SFT and RL alike."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from torch import Tensor

from fipo.config import Optimizer
from fipo.distributed.checkpoints import (
    Commit,
    checkpoint_path,
    committed,
    extra_of,
    load_checkpoint,
    save_checkpoint,
)
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.mirror import Mirror
from fipo.distributed.random_state import random_state
from fipo.distributed.retention import Retention
from fipo.errors import CheckpointError, Interrupted, StopRequested, StorageError
from fipo.training.job import Job

STOP_SECONDS, END_SECONDS = 20.0, 600.0
"""How long a stopped and a finished step wait for the upload of a checkpoint."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """What a loop continues from besides weights, optimizer and generators: counters and cursors, stored as JSON."""

    step: int = 0
    """Steps done."""

    @property
    def checkpoint_step(self) -> int:
        """Number of its checkpoint."""
        return self.step


State = TypeVar("State", bound=LoopState)


class Checkpoints(Generic[State]):
    """The checkpoints of one training step; every method is collective over the ranks.

    A loop calls `resume` first and `reached` after each step, inside `save_on_stop`; and `between` between updates.
    """

    def __init__(
        self,
        job: Job,
        engine: TrainingEngine,
        settings: Optimizer,
        start: State,
        written: Callable[[], object] = lambda: None,
    ) -> None:
        """`start`: where a loop begins that has no checkpoint; `written` waits until this rank has stored what it
        still writes of the steps before one."""
        self._start, self._written = start, written
        self._job, self._engine, self._settings, self._world = job, engine, settings, job.world
        self._folder = job.workspace.directory / "checkpoints"
        self._retention = Retention(
            settings.keep_checkpoints, settings.keep_best_checkpoints, settings.keep_checkpoints_every
        )
        self._mirror: Mirror | None = None
        # Without a store of its own the objects lie on the same disk: a copy there would protect from nothing.
        if job.world.is_main and job.config.storage.uri:
            workspace = job.workspace
            self._mirror = Mirror(workspace.store, workspace.checkpoint_prefix, self._folder, self._retention, job.say)
        self._boundary: tuple[State, str, Mapping[str, Tensor]]
        self._saved: State | None = None
        self._saved_at = time.monotonic()
        self._loaded: tuple[Path, Commit] | None = None
        self._failed_saves = 0

    def resume(self, *, at_most: int) -> State:
        """The state of the newest sound checkpoint of at most this step, restored; where there is none, the start."""
        state = self._load(at_most) or self._start
        if self._mirror:
            self._mirror.update()  # what an earlier attempt did not send
        self.mark(state)
        return state

    def restore(self, *, at_most: int) -> State | None:
        """The same while training goes on; None where there is no such checkpoint, and nothing is changed."""
        state = self._load(at_most)
        if state:
            self.mark(state)
        return state

    def mark(self, state: State) -> None:
        """What a stop saves from here on: the state to which the weights belong, and the generators as they are now."""
        self._boundary = state, random_state(), {}

    def extra(self) -> list[dict[str, Tensor]]:
        """What each rank kept in the checkpoint that was restored, besides its state (`between`)."""
        return extra_of(*self._loaded) if self._loaded else []

    def between(self, state: State, extra: Callable[[], Mapping[str, Tensor]]) -> None:
        """The next step is under way, between two of its updates: save if it is time to, with what it needs to go on.

        Raises:
            Interrupted: asked to stop; what is done is saved.
        """
        stopping, due = self._asked()
        if (stopping or due) and not self._engine.skipped_in_a_row:
            self._boundary = state, random_state(), extra()
            self._save(None)
            if stopping:
                self._stop()

    def reached(self, state: State, *, score: float | None = None, last: bool = False) -> None:
        """A step is done: save if it is time to; score: validation result at this step, higher is better.

        Raises:
            Interrupted: asked to stop; this step is saved.
        """
        self.mark(state)
        stopping, due = self._asked()
        if stopping or due or last or state.step % self._settings.checkpoint_every == 0:
            self._save(score)
        if stopping:
            self._stop()

    @contextmanager
    def save_on_stop(self) -> Iterator[None]:
        """A stop request within a step saves the state before it: what was marked last."""
        try:
            yield
        except StopRequested:
            self._stop()

    def _asked(self) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether it is time for a checkpoint by any rank's clock."""
        minutes, most = (time.monotonic() - self._saved_at) / 60.0, self._settings.checkpoint_minutes
        stopping, due = self._world.max([self._world.stopping, most is not None and minutes >= most]).tolist()
        return bool(stopping), bool(due)

    def _stop(self) -> NoReturn:
        if self._boundary[0] != self._saved:
            self._save(None)
        self.close(STOP_SECONDS)
        step = self._saved.checkpoint_step if self._saved else 0
        raise Interrupted(f"stopped on request, saved up to step {step}; run the same command again to continue")

    def close(self, seconds: float = END_SECONDS) -> None:
        """Wait for the upload of the newest checkpoint, at most so long, and say what stays on this disk."""
        if self._mirror:
            # The other ranks wait below, and not for ever.
            self._mirror.close(min(seconds, self._job.config.distributed.timeout_seconds / 2))
            self._prune()  # what was being sent when the last one was saved
        if self._world.is_main and (kept := committed(self._folder)):
            size = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
            steps = ", ".join(map(str, kept))
            self._job.say(f"kept on disk, {size / 1e6:,.0f} MB: step {steps} in {self._folder} ({self._retention})")
        self._world.barrier()

    def _save(self, score: float | None) -> None:
        """Save the boundary; failing to is told and counted, and training goes on."""
        state, generators, extra = self._boundary
        step = state.checkpoint_step
        if self._engine.skipped_in_a_row:
            self._job.say(f"step {step} is not saved: its last update was left out")
            return
        self._written()
        started = time.monotonic()
        try:
            save_checkpoint(
                *(self._engine, self._folder, step, asdict(state)), random_state=generators, score=score, extra=extra
            )
            self._saved = state
            self._prune()
        except CheckpointError as error:
            self._failed_saves += 1
            self._job.say(f"warning: {error}; training goes on without it")
        self._saved_at = time.monotonic()
        metrics = {
            "perf/checkpoint_seconds": time.monotonic() - started,
            "checkpoint/failed_saves": float(self._failed_saves),
        }
        if self._mirror:
            metrics["checkpoint/failed_uploads"] = float(self._mirror.failures)
            metrics["checkpoint/uploaded_step"] = float(self._mirror.uploaded_step)
        self._job.log(metrics, step)

    def _prune(self) -> None:
        if not self._world.is_main:
            return
        kept = self._retention.kept({step: commit.score for step, commit in committed(self._folder).items()})
        if self._mirror:
            self._mirror.update()
            kept |= {self._mirror.sending or 0}
        names = {checkpoint_path(self._folder, step).name for step in kept}
        for path in self._folder.glob("step-*"):
            if path.name not in names:  # what a crash left unfinished goes too
                shutil.rmtree(path, ignore_errors=True)

    def _load(self, at_most: int) -> State | None:
        """Restore the newest checkpoint that is whole, on disk or else in the store; its state."""
        for step, (local, remote) in self._known(at_most).items():
            path = checkpoint_path(self._folder, step)
            if local and local.verified(path, self._world):
                found = local
            elif remote and self._brought(step) and remote.verified(path, self._world):
                found = remote
            else:
                self._job.say(f"warning: checkpoint {path} is damaged; looking for an older one")
                continue
            load_checkpoint(self._engine, path, found)
            self._loaded = path, found
            self._saved = replace(self._start, **found.state)
            return self._saved
        return None

    def _known(self, at_most: int) -> dict[int, tuple[Commit | None, Commit | None]]:
        """Steps with their commits on disk and in the store, newest first; on every rank what rank 0 sees."""
        found: dict[int, tuple[Commit | None, Commit | None]] = {}
        if self._world.is_main:
            local, remote = committed(self._folder), self._mirror.commits() if self._mirror else {}
            steps = sorted((step for step in {*local, *remote} if step <= at_most), reverse=True)
            found = {step: (local.get(step), remote.get(step)) for step in steps}
        seen_by: list[dict[int, tuple[Commit | None, Commit | None]]] = self._world.gather(found)
        return seen_by[0]

    def _brought(self, step: int) -> bool:
        """Bring a checkpoint from the store; whether that worked, on every rank alike."""
        self._job.say(f"checkpoint of step {step} comes from the object store")
        failure = ""
        if self._mirror:
            try:
                self._mirror.download(step)
            except StorageError as error:
                failure = str(error)
                self._job.say(f"warning: {failure}")
        return not self._world.gather(failure)[0]
