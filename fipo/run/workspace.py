"""One step of one run: where its inputs come from, where it works, and how its result is committed.

Every step is identified by a fingerprint of the settings that change its result and of the contents of its inputs. A
step whose fingerprint is already committed is reused; one that was interrupted finds its work folder and continues.

Object store:  <run>/config.yaml                       the settings of the newest step, for who reads the run elsewhere
               <run>/<step>/<fingerprint>/<output>/…   files and their manifest
               <run>/<step>/results/<fingerprint>.json what came of it
               <run>/<step>/result.json                the newest of these
               <run>/<step>/checkpoints/<lineage>/…    copies of checkpoints, with `storage.uri`
               <run>/train/rollouts/<lineage>/…        every response of every step, as parquet
               <run>/<step>/claims/<lineage>/…         who works on the step
Local disk:    <run.directory>/<run>/<step>/<lineage>/ work in progress, checkpoints, journal
               <run.directory>/<run>/inputs/…          verified copies of upstream outputs
"""

from __future__ import annotations

import fcntl
import importlib
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fipo.errors import ConfigError, LaunchError, ObjectDamaged, ObjectNotFound
from fipo.files import boot_id, private_folder
from fipo.launch.job import run_job
from fipo.run.code import code_digest, versions
from fipo.run.continuation import IDENTITY, continued_in
from fipo.run.identity import Identity, fits
from fipo.run.result import Output, StepResult
from fipo.run.stages import Stage, at_work, write_stage
from fipo.run.step import STEPS, steps_to
from fipo.storage import (
    claimed,
    delete_directory,
    distrust_directories,
    download_directory,
    release,
    upload_directory,
)
from fipo.tracking import Tracker, last_status, replay_left

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from fipo.run.run import Run


PAGE = "fipo.report.live:live_page"
"""What shows the run while a step works: a context manager, called with its workspace."""


SENTENCE = "fipo.report.sentences:describe"
"""What came of a step, in words: called with its result."""


class Workspace:
    """One step of one run: `Run.step` and `Run.step_as_left` make it."""

    def __init__(self, run: Run, step: str, identity: Identity | None) -> None:
        self.of_run, self.config, self.step, self.results = run, run.config, step, run.results
        self.store, config = self.results.store, run.config
        if identity is None:
            self.upstream = self._fitting(step)
            identity = Identity.of(config, step, self.upstream)
        else:
            self.upstream = {name: self._require(name, of) for name, of in identity.upstream.items()}
        self.identity, self.fingerprint = identity, identity.fingerprint
        lineage = identity.lineage[:12]
        self.directory = config.run_directory / step / lineage
        self.checkpoint_prefix = f"{config.run.name}/{step}/checkpoints/{lineage}"
        self.rollouts_prefix = f"{config.run.name}/{step}/rollouts/{lineage}"
        self._outputs_prefix = f"{config.run.name}/{step}/{self.fingerprint[:12]}"
        self._claim_prefix = f"{config.run.name}/{step}/claims/{lineage}"

    def run(self, *, fresh: bool = False, task: Mapping[str, Any] | None = None) -> StepResult:
        """Compute the step's result, continue to, or find that it has finished with these settings and inputs before.

        Args:
            fresh: start anew even if it has finished or was interrupted.
            task: what the pipeline set on its task (resources, env, volumes, ...), for the pods of a TrainJob.

        Raises:
            FipoError: see `fipo.errors`; after any of them the same call continues from what was saved.
        """
        self.of_run.write_settings()
        self.of_run.record_settings()
        if fresh:
            self.discard()
        done = self.finished()
        if done:
            print(f"[{self.step}] reused: {_compared(done)}", flush=True)
            self.commit(done)  # the newest again, where other settings have come between
            write_stage(
                self.of_run.directory, self.step, Stage.reused_at(self.directory, done.fingerprint, done.seconds)
            )
            self._settle(done)
        result = done or self._compute(task or {})
        if result.mlflow_url:
            print(f"[{self.step}] MLflow: {result.mlflow_url}", flush=True)
        if then := STEPS[self.step].then:
            _function(then)(self, result)
        return result

    def _compute(self, task: Mapping[str, Any]) -> StepResult:
        folder, at = self.of_run.directory, self.directory
        print(f"[{self.step}] begins", flush=True)  # its processes import for seconds before they say anything
        with _function(PAGE)(self), at_work(folder, self.step, folder=at, fingerprint=self.fingerprint):
            return self._computed(task)

    def _computed(self, task: Mapping[str, Any]) -> StepResult:
        started, step = time.monotonic(), STEPS[self.step]
        if step.check:
            _function(step.check)(self.config, [self.step], download=True)
        if step.job:
            identity = self.directory / IDENTITY
            self.identity.write(identity)
            # Not the run's own file: a step with other settings, begun meanwhile, replaces that one.
            settings = self.of_run.write_settings(self.directory)
            arguments = ["--config", str(settings), "--identity", str(identity)]
            run_job(step.job, arguments, self.config, step=self.step, fingerprint=self.fingerprint, task=task)
        else:
            with self.attempt() as attempt:
                _function(step.work)(attempt)
        # The time that people wait: start-up included.
        return self.commit(replace(self.result(), seconds=round(time.monotonic() - started, 1)))

    def finished(self) -> StepResult | None:
        """The committed result of this very step, settings and inputs, or None.

        The newest counts too where it ended with these settings and somebody wanted it to go on from others.
        """
        newest, own = self.results.newest(self.step), self.identity
        wanted = newest and newest.continued and (newest.settings, newest.inputs) == (own.settings, own.inputs)
        return self.results.at(self.step, self.fingerprint) or (newest if wanted else None)

    def result(self) -> StepResult:
        """The result that this step has just committed."""
        return replace(self._require(self.step, self.fingerprint), reused=False)

    def commit(self, result: StepResult) -> StepResult:
        """Keep `result`, and make it the newest of the step."""
        self.results.put(result)
        return result

    def discard(self) -> None:
        """Forget the step's result and its work in progress, so that it begins anew.

        Raises:
            LaunchError: a process on this or another machine is running this step of this run.
        """
        with self._alone():
            distrust_directories(self.store, self._outputs_prefix)
            self.results.forget(self.step, self.fingerprint)
            delete_directory(self.store, self.checkpoint_prefix)
            shutil.rmtree(self.directory, ignore_errors=True)

    def input(self, step: str, name: str) -> Path:
        """A verified local copy of an upstream output.

        Raises:
            ObjectNotFound, ObjectDamaged: the stored files are not those that the step published; it can make new ones.
        """
        try:
            return self.fetch(self.upstream[step].outputs[name], f"{step}-{name}")
        except (ObjectNotFound, ObjectDamaged) as error:
            raise type(error)(
                f"{error}. Step {step} left it, and makes it anew: `fipo {step} --fresh`, with this recipe and settings"
            ) from None

    def input_folder(self, step: str, name: str) -> Path:
        """Where `input` puts it."""
        return self._folder(self.upstream[step].outputs[name], f"{step}-{name}")

    def _folder(self, output: Output, name: str) -> Path:
        return self.config.run_directory / "inputs" / f"{name}-{output.sha256[:12]}"

    def fetch(self, output: Output, name: str) -> Path:
        """A verified local copy of an output of this run.

        Raises:
            ObjectDamaged, StorageError: the stored files are not those that the step published, or cannot be had.
        """
        folder = self._folder(output, name)
        prefix = output.uri.removeprefix(self.store.uri).strip("/")
        manifest = download_directory(self.store, prefix, folder, link=True)
        if manifest.sha256 != output.sha256:
            raise ObjectDamaged(f"{output.uri}: expected contents of SHA-256 {output.sha256}; found {manifest.sha256}")
        return folder

    def publish(self, name: str, folder: Path, parts: Mapping[str, Collection[str]] | None = None) -> Output:
        """Upload a folder as one of this step's outputs; `parts` are files in it that a later step reads alone."""
        prefix = f"{self._outputs_prefix}/{name}"
        manifest = upload_directory(self.store, folder, prefix)
        digests = {part: manifest.only(files).sha256 for part, files in (parts or {}).items()}
        return Output(f"{self.store.uri}/{prefix}", manifest.sha256, digests)

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Run the step: an MLflow run is open inside, and on normal exit the result is committed.

        Raises:
            LaunchError: a process on this or another machine is running this step of this run.
        """
        started = time.monotonic()
        with self._alone(), self._tracker() as tracker:
            tracker.params(self.config.flat())
            tracker.artifact(self.of_run.write_settings(self.directory))
            if changes := continued_in(self.directory):
                tracker.tags({"fipo.continued": "; ".join(map(str, changes))})
            attempt = Attempt(self, tracker)
            yield attempt
            result = attempt.commit(time.monotonic() - started)
            if attempt.metrics:  # without a measurement there is nothing to say
                tracker.describe(_function(SENTENCE)(result))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from this step: on this machine by a lock on its folder, elsewhere by a claim in the store."""
        private_folder(self.directory)
        with (
            _locked(self.directory / "lock"),
            claimed(self.store, self._claim_prefix, holder=self._place, on_lost=_stop_this_process),
        ):
            yield

    @property
    def _place(self) -> str:
        """Who holds a claim of this step, for people and for itself when it comes again."""
        return f"{platform.node()}:{self.directory.resolve()} ({boot_id()})"

    def _settle(self, done: StepResult) -> None:
        """Of a step that has finished: what a kill or an outage at its end has left undone, or called a failure."""
        if self.directory.exists():
            with suppress(LaunchError), _locked(self.directory / "lock"):  # who lives does it itself
                is_own = done.fingerprint == self.fingerprint
                if is_own and last_status(self.directory / "journal.jsonl", self.run_key) != "FINISHED":
                    with self._tracker():  # its MLflow run is over, and well
                        pass
                release(self.store, self._claim_prefix, holder=self._place)
        replay_left(self.directory)

    @property
    def run_key(self) -> str:
        """Key of the step's MLflow run."""
        return f"{self.config.run.name}/{self.step}/{self.fingerprint[:12]}"

    def _tracker(self) -> Tracker:
        config = self.config
        return Tracker.open(
            config.tracking_uri,
            experiment=f"{config.tracking.experiment_prefix}/{self.step}",
            run_name=self.of_run.title(self.step, self.fingerprint),
            run_key=self.run_key,
            journal=self.directory / "journal.jsonl",
            parent=self.of_run.parent,
            artifact_root=f"{config.storage_uri}/mlflow",
            public_uri=config.links.mlflow,
            # Of a step that others wait for: the report's own is the last page.
            page=self.of_run.directory / "report.html" if STEPS[self.step].job else None,
            also=config.tracking.also,
            also_folder=config.run.directory,
        )

    def _fitting(self, goal: str) -> dict[str, StepResult]:
        """The results that `goal` builds on: of each step the newest of these settings, and of one another.

        What steps read from outside may have changed since they ran; whether it has is theirs to find out.
        """
        fitting: dict[str, StepResult] = {}
        for step in steps_to(goal)[:-1]:
            candidates = self.results.history(step)
            found = next((result for result in candidates if fits(result, self.config, fitting)), None)
            fitting[step] = found or self._missing(step)
        return {step: fitting[step] for step in STEPS[goal].upstream}

    def _require(self, step: str, fingerprint: str) -> StepResult:
        return (fingerprint and self.results.at(step, fingerprint)) or self._missing(step)

    def _missing(self, step: str) -> NoReturn:
        other = "; what is there has other settings or inputs" if self.results.newest(step) else ""
        raise ConfigError(
            f"step {self.step!r} of run {self.config.run.name!r} needs the result of {step!r}, and there is none "
            f"in {self.store.uri}{other}: run `fipo {step}` with the same recipe and settings first"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                f"another process is running this step ({path} is locked): wait for it, or stop it first"
            ) from None
        yield


def _stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _function(reference: str) -> Callable[..., Any]:
    """`module:function`: most tasks of a pipeline only find that there is nothing to do, and import nothing for it."""
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _compared(result: StepResult) -> str:
    """What was found the same, and since when."""
    when = result.finished[:16].replace("T", " ")
    inputs = ", ".join(f"{name} {sha.removeprefix('sha256:')[:8]}" for name, sha in result.inputs.items())
    changes = "".join(f"; continued {change}" for change in result.continued)
    return f"finished {when} UTC with the same settings and inputs ({inputs or 'none'}){changes}"


class Attempt:
    """A step in progress: collects what its result will hold."""

    def __init__(self, workspace: Workspace, tracker: Tracker) -> None:
        self.workspace, self.tracker = workspace, tracker
        self.outputs: dict[str, Output] = {}
        self.metrics: dict[str, float] = {}
        self._record: dict[str, Any] = {}

    def record(self, record: DataclassInstance) -> None:
        """What later steps and readers need besides outputs and metrics; `StepResult.read` gives it back."""
        self._record = asdict(record)

    def publish(self, name: str, folder: Path, parts: Mapping[str, Collection[str]] | None = None) -> None:
        """Upload a folder as an output of the step; see `Workspace.publish`."""
        self.outputs[name] = self.workspace.publish(name, folder, parts)

    def commit(self, seconds: float) -> StepResult:
        """Write the result: from now on the step is finished."""
        workspace = self.workspace
        result = StepResult(
            step=workspace.step,
            fingerprint=workspace.fingerprint,
            seconds=round(seconds, 3),
            outputs=self.outputs,
            settings=workspace.identity.settings,
            inputs=dict(workspace.identity.inputs),
            metrics=self.metrics,
            record=self._record,
            run=workspace.config.run.name,
            code=code_digest(),
            versions=versions(),
            continued=[str(change) for change in continued_in(workspace.directory)],
            mlflow_run_id=self.tracker.run_id,
            mlflow_url=self.tracker.url,
            pipeline_run=self.tracker.pipeline_run,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return workspace.commit(result)
