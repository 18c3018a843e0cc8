"""One step of one run: where its inputs come from, where it works, and how its result is committed.

Every step is identified by a fingerprint of the settings that change its result and of its inputs. A step whose
fingerprint is already committed is reused; one that was interrupted finds its work folder again and continues.

Object store:  <run>/config.yaml                       the settings of the newest step, for who reads the run elsewhere
               <run>/<step>/<fingerprint>/<output>/…   files and their manifest
               <run>/<step>/result.json                the newest committed result
               <run>/<step>/checkpoints/<lineage>/…    copies of checkpoints, with `storage.uri`
               <run>/train/rollouts/<lineage>/…        every response of every step, as parquet
               <run>/<step>/claims/<lineage>/…         who works on the step
Local disk:    <run.directory>/<run>/<step>/<lineage>/ work in progress, checkpoints, journal
               <run.directory>/<run>/inputs/…          verified copies of upstream outputs
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fipo.config import Config, Role
from fipo.errors import ConfigError, LaunchError, ObjectNotFound, StorageError
from fipo.step import STEPS
from fipo.storage import claimed, delete_directory, download_directory, open_store, upload_directory
from fipo.tracking import RunIdentity, Tracker, parent_run

SETTINGS = "config.yaml"
"""File of a run's resolved settings, in its folder and in the object store."""


@dataclass(frozen=True, slots=True)
class Output:
    """A folder that a step published."""

    uri: str
    """Object-store URI of the folder."""
    sha256: str
    """Digest over the names and contents of its files."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a finished step left behind."""

    step: str
    fingerprint: str
    """Identity of settings and inputs (hex)."""
    seconds: float
    """Wall time of the attempt that finished."""
    outputs: dict[str, Output] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """What later steps and the report need besides, JSON-serialisable."""
    mlflow_run_id: str = ""
    mlflow_url: str = ""
    pipeline_run: str = ""
    """Id of Kubeflow's run that computed it; empty for a run without Kubeflow."""
    finished: str = ""
    """When it was committed: ISO 8601, UTC."""
    reused: bool = False
    """Whether this call found the result instead of computing it."""

    def to_json(self) -> str:
        """As stored."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, reused: bool = False) -> StepResult:
        """From what `to_json` gave."""
        tree = json.loads(text)
        outputs = {name: Output(**output) for name, output in tree.pop("outputs").items()}
        return cls(**{**tree, "outputs": outputs, "reused": reused})


class Workspace:
    """One step of the run that `config` describes.

    Raises:
        ConfigError: a step that this one builds on has not finished.
    """

    def __init__(self, config: Config, step: str) -> None:
        self.config, self.step = config, step
        self.store = open_store(config.storage_uri)
        self.upstream = {name: self._require(name) for name in STEPS[step].upstream}
        settings = identity_settings(config, step)
        inputs = {name: result.fingerprint for name, result in self.upstream.items()}
        self.fingerprint = _digest({"step": step, "settings": settings, "inputs": inputs})
        # A longer run continues from the checkpoints of the shorter one.
        begun = identity_settings(config, step, Role.LENGTH)
        lineage = _digest({"step": step, "settings": begun, "inputs": inputs})
        self.directory = config.run_directory / step / lineage[:12]
        self.checkpoint_prefix = f"{config.run.name}/{step}/checkpoints/{lineage[:12]}"
        self.rollouts_prefix = f"{config.run.name}/{step}/rollouts/{lineage[:12]}"
        self._claim_prefix = f"{config.run.name}/{step}/claims/{lineage[:12]}"

    def finished(self) -> StepResult | None:
        """The committed result of this very step, settings and inputs, or None."""
        result = self.result_of(self.step)
        return result if result and result.fingerprint == self.fingerprint else None

    def result(self) -> StepResult:
        """The result that this step has just committed."""
        return replace(self._read(self.step), reused=False)

    def commit(self, result: StepResult) -> StepResult:
        """Make `result` the newest result of the step."""
        self.store.put(self._result_key(self.step), result.to_json().encode())
        return result

    def result_of(self, step: str) -> StepResult | None:
        """The newest committed result of any step of this run."""
        try:
            return self._read(step)
        except ObjectNotFound:
            return None

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
            self.store.delete(self._result_key(self.step))
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

    def publish(self, name: str, folder: Path) -> Output:
        """Upload a folder as one of this step's outputs."""
        prefix = f"{self.config.run.name}/{self.step}/{self.fingerprint[:12]}/{name}"
        manifest = upload_directory(self.store, folder, prefix)
        return Output(f"{self.store.uri}/{prefix}", manifest.sha256)

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

    def _read(self, step: str) -> StepResult:
        """A committed result, its outputs where this store has them and its page where browsers find it.

        Stores are copied, and reached under other addresses than the one that the step saw.
        """
        found = StepResult.from_json(self.store.get(self._result_key(step)), reused=True)
        outputs = {}
        for name, output in found.outputs.items():
            place = "/".join(output.uri.split("/")[-4:])  # a step adopted from another run keeps that run's name
            ours = place.endswith(f"/{step}/{found.fingerprint[:12]}/{name}")
            outputs[name] = replace(output, uri=f"{self.store.uri}/{place}") if ours else output
        return replace(found, outputs=outputs, mlflow_url=self.config.mlflow_page(found.mlflow_url))

    def _result_key(self, step: str) -> str:
        return f"{self.config.run.name}/{step}/result.json"

    def _require(self, step: str) -> StepResult:
        result = self.result_of(step)
        if result is None:
            raise ConfigError(
                f"step {self.step!r} of run {self.config.run.name!r} needs the result of {step!r}, and there is none "
                f"in {self.store.uri}: run `fipo {step}` with the same recipe and settings first"
            )
        return result


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


def adopt(config: Config, run: str, steps: Iterable[str]) -> None:
    """Take finished steps of another run in the same store as steps of this run: variants share what comes before them.

    Raises:
        ObjectNotFound: the other run has not finished one of them.
    """
    store = open_store(config.storage_uri)
    for step in steps:
        store.put(f"{config.run.name}/{step}/result.json", store.get(f"{run}/{step}/result.json"))


def run_key(config: Config) -> str:
    """Key of the pipeline's MLflow run: the same settings continue it, others begin a new one."""
    return f"{config.run.name}/{_digest(config.without(Role.PLACEMENT))[:12]}"


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

    def publish(self, name: str, folder: Path) -> None:
        """Upload a folder as an output of the step."""
        self.outputs[name] = self.workspace.publish(name, folder)

    def commit(self, seconds: float) -> None:
        """Write the result: from now on the step is finished."""
        workspace = self.workspace
        result = StepResult(
            step=workspace.step,
            fingerprint=workspace.fingerprint,
            seconds=round(seconds, 3),
            outputs=self.outputs,
            metrics=self.metrics,
            details=self.details,
            mlflow_run_id=self.tracker.run_id,
            mlflow_url=self.tracker.url,
            pipeline_run=self.tracker.pipeline_run,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        workspace.commit(result)


def identity_settings(config: Config, step: str, *also_without: Role) -> dict[str, Any]:
    """The settings that change the step's result, but those of the roles `also_without`."""
    left_out = [Role.PLACEMENT, *also_without, *([] if STEPS[step].measures else [Role.MEASURING])]
    return {section: getattr(config, section).without(*left_out) for section in STEPS[step].sections}


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
