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
import os
import platform
import shutil
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from fipo.config import Config, Role
from fipo.errors import ConfigError, LaunchError, ObjectNotFound, StorageError
from fipo.run.identity import Identity, digest, fits
from fipo.run.result import Output, StepResult
from fipo.run.results import Results
from fipo.run.step import STEPS, steps_to
from fipo.storage import claimed, delete_directory, download_directory, upload_directory
from fipo.tracking import RunIdentity, Tracker, parent_run

SETTINGS = "config.yaml"
"""File of a run's resolved settings, in its folder and in the object store."""


class Workspace:
    """One step of the run that `config` describes.

    Args:
        config: the run's settings.
        step: its name.
        identity: where it is known already, as in the processes of a job.

    Raises:
        ConfigError: a step that this one builds on has not finished with these settings and inputs.
        DataError: something that a step reads is not there.
    """

    def __init__(self, config: Config, step: str, identity: Identity | None = None) -> None:
        self.config, self.step, self.results = config, step, Results(config)
        self.store = self.results.store
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
        self._claim_prefix = f"{config.run.name}/{step}/claims/{lineage}"

    @classmethod
    def newest(cls, config: Config, step: str) -> Workspace:
        """The step on the newest results of the run, whatever settings and inputs they came from, to read them.

        Raises:
            ConfigError: a step that this one builds on has not finished.
        """
        newest = Results(config).all_newest()
        upstream = {name: newest[name].fingerprint if name in newest else "" for name in STEPS[step].upstream}
        own = newest[step].fingerprint if step in newest else digest(upstream)
        return cls(config, step, Identity(own, own, "", {}, upstream))

    def finished(self) -> StepResult | None:
        """The committed result of this very step, settings and inputs, or None."""
        return self.results.at(self.step, self.fingerprint)

    def result(self) -> StepResult:
        """The result that this step has just committed."""
        return replace(self._require(self.step, self.fingerprint), reused=False)

    def commit(self, result: StepResult) -> StepResult:
        """Keep `result`, and make it the newest of the step."""
        self.results.put(result)
        return result

    def record_settings(self) -> None:
        """Keep the run's settings beside its results; those of a later run of the same name replace them."""
        key, settings = f"{self.config.run.name}/{SETTINGS}", self.config.to_yaml().encode()
        try:
            there = self.store.get(key)
        except ObjectNotFound:
            there = b""
        if there != settings:
            self.store.put(key, settings)

    def discard(self) -> None:
        """Forget the step's result and its work in progress, so that it begins anew.

        Raises:
            LaunchError: a process on this or another machine is running this step of this run.
        """
        with self._alone():
            self.results.forget(self.step, self.fingerprint)
            delete_directory(self.store, self.checkpoint_prefix)
            shutil.rmtree(self.directory, ignore_errors=True)

    def input(self, step: str, name: str) -> Path:
        """A verified local copy of an upstream output."""
        return self.fetch(self.upstream[step].outputs[name], f"{step}-{name}")

    def fetch(self, output: Output, name: str) -> Path:
        """A verified local copy of an output of this run.

        Raises:
            StorageError: the stored files are not those that the step published.
        """
        folder = self.config.run_directory / "inputs" / f"{name}-{output.sha256[:12]}"
        manifest = download_directory(self.store, output.uri.removeprefix(self.store.uri).strip("/"), folder)
        if manifest.sha256 != output.sha256:
            raise StorageError(f"{output.uri}: expected contents of SHA-256 {output.sha256}; found {manifest.sha256}")
        return folder

    def publish(self, name: str, folder: Path, parts: Mapping[str, Collection[str]] | None = None) -> Output:
        """Upload a folder as one of this step's outputs; `parts` are files in it that a later step reads alone."""
        prefix = f"{self.config.run.name}/{self.step}/{self.fingerprint[:12]}/{name}"
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
            settings = self.directory / SETTINGS
            settings.write_text(self.config.to_yaml(), encoding="utf-8")
            tracker.artifact(settings)
            attempt = Attempt(self, tracker)
            yield attempt
            attempt.commit(time.monotonic() - started)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from this step: on this machine by a lock on its folder, elsewhere by a claim in the store."""
        self.directory.mkdir(parents=True, exist_ok=True)
        place = f"{platform.node()}:{self.directory.resolve()} ({_boot_id()})"
        with (
            _locked(self.directory / "lock"),
            claimed(self.store, self._claim_prefix, holder=place, on_lost=_stop_this_process),
        ):
            yield

    @property
    def run_key(self) -> str:
        """Key of the step's MLflow run."""
        return f"{self.config.run.name}/{self.step}/{self.fingerprint[:12]}"

    def _tracker(self) -> Tracker:
        config = self.config
        return Tracker.open(
            config.tracking_uri,
            experiment=f"{config.tracking.experiment_prefix}/{self.step}",
            run_name=_telling_name(config, self.step, self.fingerprint),
            run_key=self.run_key,
            journal=self.directory / "journal.jsonl",
            parent=parent_of(config),
            artifact_root=f"{config.storage_uri}/mlflow",
            public_uri=config.links.mlflow,
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


def _boot_id() -> str:
    """Tells machines of the same name apart; a machine that has started anew is another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]


def _stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _telling_name(config: Config, step: str, digest: str) -> str:
    """`demo-train-fipo-lr0.0001-s0-3f2a91`: what tells runs of one kind apart in MLflow's lists and legends.

    The end is that of other settings or inputs under the same name.
    """
    parts = [config.run.name, *([step] if step else [])]
    if step in ("train", ""):
        parts += [config.algorithm.loss, f"lr{config.train.learning_rate:g}"]
    return "-".join([*parts, f"s{config.run.seed}", digest[:6]])


def run_key(config: Config) -> str:
    """Key of the pipeline's MLflow run: the same settings continue it, others begin a new one."""
    return f"{config.run.name}/{digest(config.without(Role.PLACEMENT))[:12]}"


def parent_of(config: Config) -> RunIdentity:
    """The pipeline's MLflow run, the parent of its steps' runs."""
    key = run_key(config)
    return parent_run(
        config.tracking_uri,
        experiment=config.tracking.experiment_prefix,
        run_name=_telling_name(config, "", key.rpartition("/")[2]),
        run_key=key,
        artifact_root=f"{config.storage_uri}/mlflow",
    )


class Attempt:
    """A step in progress: collects what its result will hold."""

    def __init__(self, workspace: Workspace, tracker: Tracker) -> None:
        self.workspace, self.tracker = workspace, tracker
        self.outputs: dict[str, Output] = {}
        self.metrics: dict[str, float] = {}
        self.details: dict[str, Any] = {}

    def publish(self, name: str, folder: Path, parts: Mapping[str, Collection[str]] | None = None) -> None:
        """Upload a folder as an output of the step; see `Workspace.publish`."""
        self.outputs[name] = self.workspace.publish(name, folder, parts)

    def commit(self, seconds: float) -> None:
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
            details=self.details,
            mlflow_run_id=self.tracker.run_id,
            mlflow_url=self.tracker.url,
            pipeline_run=self.tracker.pipeline_run,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        workspace.commit(result)
