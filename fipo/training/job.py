"""What every distributed step does around its work: read settings, join the ranks, open the step, report its end."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from fipo.config import Config, load_config
from fipo.distributed.bootstrap import World, is_lost_peer, join_world
from fipo.errors import FipoError
from fipo.files import private_folder
from fipo.launch.progress import Progress
from fipo.redaction import guard_output
from fipo.run.identity import Identity
from fipo.run.run import Run
from fipo.run.workspace import Attempt, Workspace
from fipo.training.pace import Meter


@dataclass(frozen=True, slots=True)
class Job:
    """One rank's view of a distributed step."""

    config: Config
    world: World
    workspace: Workspace
    attempt: Attempt | None
    """On rank 0: where metrics and results go."""
    progress: Progress
    meter: Meter = field(default_factory=Meter)

    def input(self, step: str, name: str) -> Path:
        """A local copy of an upstream output, and the run records it.

        Where the machines share the disk of rank 0, it alone fetches; then one rank of each machine reads it all and
        holds it against its digests, and no other does.
        """
        shared = self._shares_disk()
        if self.world.is_main or (self.world.local_rank == 0 and not shared):
            self.workspace.input(step, name)
        self.world.meet()
        if shared and self.world.local_rank == 0 and not self.world.is_main:
            self.workspace.input(step, name)
        if self.attempt:
            output = self.workspace.upstream[step].outputs[name]
            self.attempt.tracker.dataset(f"{step}/{name}", output.sha256, output.uri, context=self.workspace.step)
        self.world.meet()
        return self.workspace.input_folder(step, name)

    def _shares_disk(self) -> bool:
        """Whether this rank sees what rank 0 writes; collective."""
        probe = self.workspace.config.run_directory / ".seen-by-all"
        if self.world.is_main:
            private_folder(probe.parent)
            probe.write_text(nonce := str(os.urandom(8).hex()), encoding="ascii")
        nonce = self.world.gather(nonce if self.world.is_main else "")[0]
        seen = probe.is_file() and probe.read_text(encoding="ascii") == nonce
        self.world.barrier()
        if self.world.is_main:
            probe.unlink()
        return seen

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics once for all ranks; the newest values become the step's result."""
        if self.attempt:
            self.attempt.tracker.log(metrics, step)
            self.attempt.metrics.update(metrics)
            self.progress.report(step, metrics)

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Log scores to the step's run and to the pipeline's, where runs are compared."""
        if self.attempt:
            self.attempt.tracker.log_final(metrics)
            self.attempt.metrics.update(metrics)

    def say(self, line: str) -> None:
        """Tell the user how the work goes, once for all ranks; the run's page shows what begins with `warning: `."""
        if self.world.is_main:
            print(f"[{self.workspace.step}] {line}", flush=True)
        if self.attempt:
            self.attempt.tracker.say(line)

    def part(self, what: str, done: int, total: int) -> None:
        """Tell how far a part of the work is, in a line where it takes long."""
        if line := self.meter.part(what, done, total):
            self.say(line)


def run_job(step: str, work: Callable[[Job], None]) -> None:
    """The main function of a worker: `--config FILE` names the resolved settings."""
    parser = argparse.ArgumentParser(description=f"One worker of the {step} step, as torchrun starts it.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file of resolved settings")
    parser.add_argument("--identity", type=Path, help="file of the step's identity; without it, it is found out here")
    options = parser.parse_args()
    guard_output()
    try:
        config = load_config(options.config)
        with join_world(config.distributed, seed=config.run.seed) as world:
            gc.freeze()  # what was imported never dies: neither training nor the end of the process looks at it again
            workspace = Run(config).step(step, Identity.read(options.identity) if options.identity else None)
            with workspace.attempt() if world.is_main else nullcontext() as attempt:
                steps = config.sft.steps if step == "sft" else config.train.steps
                meter = Meter(workspace.directory if world.is_main else None)
                work(Job(config, world, workspace, attempt, Progress(steps), meter))
                world.meet()
    except FipoError as error:
        print(f"[{step}] {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        print(
            f"[{step}] rank {os.environ['RANK']}: another rank crashed, or froze for "
            f"{config.distributed.timeout_seconds:g} s (distributed.timeout_seconds): {error}",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(FipoError.exit_code)
