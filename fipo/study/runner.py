"""Run the trials of a study as ordinary `fipo` steps: finished ones are skipped, interrupted ones continue."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fipo.errors import FipoError, Interrupted
from fipo.run.run import Run
from fipo.study import worker
from fipo.study.study import Trial

SHARED = ("prepare", "sft")
"""Steps that the arms of a seed share."""


class TrialFailed(FipoError):
    """A step of a trial ended with an error; its log has it."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs trials `parallel` at a time, each on its own share of the cores."""

    directory: Path
    """Where runs, logs, objects and MLflow's database are."""
    parallel: int

    def run(self, trials: Sequence[Trial], say: Callable[[str], None] = print) -> None:
        """Run what is not finished.

        Raises:
            TrialFailed: a step failed; the others were let finish, and the same call continues.
            Interrupted: Ctrl-C; every step has saved what it had.
        """
        warmups = {trial.warmup: trial for trial in trials}
        self._each([trial for trial in warmups.values() if not self._warm(trial)], self._warm_up, "warm-up", say)
        left = [trial for trial in trials if not self._finished(trial)]
        say(f"{len(trials) - len(left)} of {len(trials)} trials are finished; {self.parallel} at a time")
        self._each(left, self._train, "trial", say)

    def _each(
        self, trials: Sequence[Trial], work: Callable[[Trial, set[int]], str], what: str, say: Callable[[str], None]
    ) -> None:
        shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        cores = sorted(os.sched_getaffinity(0))
        for index in range(self.parallel):
            shares.put(set(cores[index :: self.parallel]) or {cores[index % len(cores)]})
        stop, began, failures, done = threading.Event(), time.monotonic(), [], 0

        def one(trial: Trial) -> str | None:
            share = shares.get()
            try:
                return None if stop.is_set() else work(trial, share)
            finally:
                shares.put(share)

        with ThreadPoolExecutor(self.parallel) as pool:
            futures = {pool.submit(one, trial): trial for trial in trials}
            try:
                for future in futures:
                    try:
                        line = future.result()
                    except TrialFailed as error:
                        failures.append(error)
                        line = str(error)
                    done += 1
                    left = (time.monotonic() - began) / done * (len(trials) - done)
                    name = futures[future].warmup if what == "warm-up" else futures[future].name
                    say(f"{what} {done}/{len(trials)}  {name}: {line}  {left / 60:.0f} min left")
            except KeyboardInterrupt:
                stop.set()
                worker.stop()
                raise Interrupted("stopped; the same command continues where it was") from None
        if failures:
            raise TrialFailed(f"{len(failures)} {what}(s) failed, the first: {failures[0]}")

    def _warm_up(self, trial: Trial, cores: set[int]) -> str:
        for step in SHARED:
            self._step(trial, step, cores, warmup=True)
        return "warmed up"

    def _train(self, trial: Trial, cores: set[int]) -> str:
        run = self._warmed_up(trial)
        for step in ("train", "evaluate"):
            self._step(trial, step, cores)
        scores, benchmark = run.step("evaluate").result().metrics, run.config.gate_benchmark
        return (
            f"avg@k {scores[f'eval/{benchmark}/avg_at_k']:.3f}, "
            f"{scores[f'eval/{benchmark}/mean_response_tokens']:.1f} tokens"
        )

    def _step(self, trial: Trial, step: str, cores: set[int], *, warmup: bool = False) -> None:
        log = self.directory / "logs" / f"{trial.warmup if warmup else trial.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if code := worker.run(step, trial.config(self.directory, warmup=warmup), cores, log):
            raise TrialFailed(f"{step} failed with exit code {code}; see {log}")

    def _warm(self, trial: Trial) -> bool:
        return len(Run(trial.config(self.directory, warmup=True)).finished("sft")) == len(SHARED)

    def _finished(self, trial: Trial) -> bool:
        return "evaluate" in self._warmed_up(trial).finished("evaluate")

    def _warmed_up(self, trial: Trial) -> Run:
        """The trial's run, with the steps that it shares."""
        run = Run(trial.config(self.directory))
        run.adopt(Run(trial.config(self.directory, warmup=True)), SHARED)
        return run
