"""The adapter to MLflow: the only module that imports it."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fipo
from fipo.errors import TrackingError
from fipo.files import private_folder
from fipo.tracking import view
from fipo.tracking.words import about, described, link_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; the default of 120 holds up the end of a step
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we retry ourselves, without end
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it prints tracking.uri, which may open only inside a cluster
}
RUN_KEY, PARENT = "fipo.run_key", "mlflow.parentRunId"
PIPELINE_RUN, NOTE = "fipo.pipeline_run", "mlflow.note.content"
"""Tags: the id of Kubeflow's run, and what MLflow's UI shows as the run's description, in Markdown."""
_TABLES = "mlflow.loggedArtifacts"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # MLflow's UI opens on runs and charts, not on traces
_LONGEST_VALUE = 5000


@dataclass(frozen=True)
class RunIdentity:
    """Which MLflow run is meant; it is found again, or made, by its key."""

    tracking_uri: str
    """A database (`sqlite:////folder/mlflow.db`) or a server (`http://host:5000`)."""
    experiment: str
    """Runs of one kind share an experiment, so that they overlay: `fipo/rl`."""
    name: str
    """For people: `demo-rl`."""
    key: str
    """Unique in the experiment; a step that is run again with this key continues its run."""
    artifact_root: str = ""
    """Object-store URI under which a new experiment keeps its artifacts; empty leaves it to the server."""
    parent: RunIdentity | None = None
    """The pipeline's run."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunIdentity:
        """From a journal's `run` record."""
        fields = {name: record[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "parent": cls.from_record(fields["parent"]) if fields["parent"] else None})

    def to_record(self) -> dict[str, Any]:
        """For the journal."""
        return {"kind": "run", **asdict(self)}


def load() -> None:
    """Import mlflow, which takes seconds, with settings that suit a client that must not hold anything up."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    collects = gc.isenabled()
    gc.disable()  # of what its two thousand modules make nothing is garbage, and looking for it is a sixth of the time
    try:
        import mlflow  # noqa: F401
    finally:
        if collects:
            gc.enable()


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the tracking server and its model registry.

    Raises:
        MlflowException: the database cannot be opened. A server is not asked yet.
    """
    load()
    from mlflow import MlflowClient

    if tracking_uri.startswith("sqlite:////"):
        folder = Path(tracking_uri.removeprefix("sqlite:///")).parent
        private_folder(folder)
        # Where MLflow's own experiment "Default" points; else it makes a folder `mlruns` wherever we stand.
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", (folder / "mlruns").as_uri())
        _make_tables(tracking_uri, folder / "mlflow.lock")
    return MlflowClient(tracking_uri, tracking_uri)


@cache
def _make_tables(tracking_uri: str, lock: Path) -> None:
    """One process after the other: two that make a database's tables at once leave it broken for good."""
    from mlflow import MlflowClient

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        is_new = not (path := Path(tracking_uri.removeprefix("sqlite:///"))).exists()
        MlflowClient(tracking_uri, tracking_uri).search_experiments(max_results=1)
        if is_new and path.exists():
            path.chmod(0o600)


class MlflowRun:
    """One run in MLflow, found by its key or made. Everything sent to it twice is there once."""

    def __init__(self, identity: RunIdentity) -> None:
        self.identity = identity
        self.client = connect(identity.tracking_uri)
        self.parent_id = find_parent(self.client, identity.parent)
        self.experiment_id, self.id, self.whole = find_or_create(self.client, identity, self.parent_id)
        """`whole`: all that was sent to this key before went to this run."""
        self.pipeline_run = ""
        """Id of Kubeflow's run, as far as the pipeline's run knows it."""

    def of_parent(self) -> MlflowRun | None:
        """The pipeline's run, to log to; None without one."""
        other = copy(self)
        other.id = self.parent_id
        return other if self.parent_id else None

    @property
    def deleted(self) -> bool:
        """Whether somebody has deleted it, in which case it takes nothing until it is restored."""
        return bool(self.client.get_run(self.id).info.lifecycle_stage == "deleted")

    def metrics(self, points: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Points of `(milliseconds since 1970, step, values)`, at most 1,000 values in all."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, at, step) for at, step, values in points for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics, synchronous=True)

    def params(self, values: Mapping[str, str]) -> None:
        """Log parameters. MLflow keeps the first value for ever: later ones go to the tag `fipo.changed_params`."""
        from mlflow.entities import Param

        there = self.client.get_run(self.id).data.params
        new = [Param(name, value) for name, value in values.items() if name not in there]
        for start in range(0, len(new), 100):
            self.client.log_batch(self.id, params=new[start : start + 100], synchronous=True)
        changed = {name: value for name, value in values.items() if there.get(name, value) != value}
        if changed:
            self.tags({"fipo.changed_params": json.dumps(changed)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, replacing older values."""
        from mlflow.entities import RunTag

        tags = [RunTag(name, value) for name, value in values.items()]
        self.client.log_batch(self.id, tags=tags, synchronous=True)

    def artifact(self, path: Path, folder: str) -> None:
        """Upload a file or a folder's contents, replacing files of the same name."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder or None)
        else:
            self.client.log_artifact(self.id, str(path), folder or None)

    def table(self, path: Path, folder: str) -> None:
        """Upload a table and list it where the UI's evaluation page looks for tables."""
        self.artifact(path, folder)
        tables = json.loads(self.client.get_run(self.id).data.tags.get(_TABLES, "[]"))
        entry = {"path": f"{folder}/{path.name}".lstrip("/"), "type": "table"}
        if entry not in tables:
            self.tags({_TABLES: json.dumps([*tables, entry])})

    def dataset(self, name: str, digest: str, uri: str, context: str) -> None:
        """Record a data set as input of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": uri, "sha256": digest})
        # MLflow's column holds 36 characters.
        data = Dataset(name=name, digest=digest[:36], source_type="uri", source=source)
        self.client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])

    def begin(self) -> None:
        """The step works now: the run is RUNNING, and names Kubeflow's run as its parent does."""
        self.status("RUNNING", 0)
        if self.parent_id:
            tags = self.client.get_run(self.parent_id).data.tags
            self.pipeline_run = tags.get(PIPELINE_RUN, "")
            self.tags({PIPELINE_RUN: self.pipeline_run} if self.pipeline_run else {})
            if link := link_of(tags.get(NOTE, "")):
                self.describe("", link=link)

    def describe(self, text: str, link: list[str] | None = None) -> None:
        """Set the run's description; its line about Kubeflow's run stays, unless `link` replaces it."""
        before = "\n".join(link or []) or self.client.get_run(self.id).data.tags.get(NOTE, "")
        self.tags({NOTE: described(before, text).strip()})

    def status(self, status: str, at: int) -> None:
        """Set RUNNING, or end the run with FINISHED, FAILED or KILLED."""
        if status == "RUNNING":
            self.client.update_run(self.id, status)
        else:
            self.client.set_terminated(self.id, status, end_time=at)

    def to_parent(self, values: Mapping[str, float], step: int, at: int) -> None:
        """Copy metrics to the pipeline's run."""
        from mlflow.entities import Metric

        if self.parent_id:
            metrics = [Metric(name, value, at, step) for name, value in values.items()]
            self.client.log_batch(self.parent_id, metrics=metrics, synchronous=True)


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """Page of a run at this address of MLflow; empty for a database."""
    return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if uri.startswith("http") else ""


def find_or_create(client: MlflowClient, identity: RunIdentity, parent_id: str) -> tuple[str, str, bool]:
    """Ids of experiment and run, and whether that has been this key's only run so far.

    If there is a second run with the key, the first one counts: a request that seemed lost has made it, or the first
    was deleted for a time.
    """
    from mlflow.entities import ViewType

    experiment_id, whole = _experiment(client, identity), True
    while True:
        runs = client.search_runs(
            [experiment_id],
            f"tags.`{RUN_KEY}` = '{identity.key}'",
            ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        if runs:
            for duplicate in runs[1:]:
                client.delete_run(duplicate.info.run_id)
            return experiment_id, runs[0].info.run_id, whole and len(runs) == 1
        tags = {RUN_KEY: identity.key, "mlflow.user": os.environ.get("USER", ""), **_code_version()}
        if parent_id:
            tags[PARENT] = parent_id
        client.create_run(experiment_id, int(time.time() * 1000), tags, identity.name)
        whole = False


def _experiment(client: MlflowClient, identity: RunIdentity) -> str:
    from mlflow.exceptions import MlflowException

    location = f"{identity.artifact_root.rstrip('/')}/{identity.experiment}" if identity.artifact_root else None
    charts = view.tag_of(identity.experiment)
    for _ in range(2):
        found = client.get_experiment_by_name(identity.experiment)
        if found and found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow experiment {identity.experiment!r} was deleted: restore it or use another prefix"
            )
        if found:
            for tag, value in charts.items():
                if found.tags.get(tag) != value:  # of another version, or there is none
                    client.set_experiment_tag(found.experiment_id, tag, value)
            return found.experiment_id
        try:
            made = client.create_experiment(identity.experiment, location, _KIND | charts)
            link = view.address_of(made) if charts else ""
            client.set_experiment_tag(made, NOTE, about(identity.experiment, link))
            return made
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
    raise TrackingError(f"MLflow experiment {identity.experiment!r} exists and cannot be found")


def _code_version() -> dict[str, str]:
    """The package's version and, in a checkout, its commit, where MLflow's UI shows them."""
    command = ["git", "-C", str(Path(fipo.__file__).parent), "rev-parse", "HEAD"]
    git = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    commit = {"mlflow.source.git.commit": git.stdout.strip()} if git and git.returncode == 0 else {}
    return {"mlflow.source.name": "fipo", "mlflow.source.type": "JOB", "fipo.version": fipo.__version__, **commit}


def find_parent(client: MlflowClient, identity: RunIdentity | None) -> str:
    """Id of the pipeline's run: KFP's own in MLflow where its plugin made one, else ours, of this identity."""
    if task_run := os.environ.get("MLFLOW_RUN_ID"):
        return client.get_run(task_run).data.tags.get(PARENT, task_run)
    return find_or_create(client, identity, "")[1] if identity else ""


def readable(value: object) -> str:
    """A parameter as MLflow's text: 1e-06 stays 1e-06, lists become JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def find_runs(client: MlflowClient, tag: str = "", value: str = "", status: str = "") -> list[Run]:
    """Runs of all experiments with this value of a tag, where one is given, and with this status likewise."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    conditions = [f"tags.`{tag}` = '{value}'"] if tag else []
    conditions += [f"attributes.status = '{status}'"] if status else []
    return client.search_runs(experiments, " and ".join(conditions), max_results=1000)
