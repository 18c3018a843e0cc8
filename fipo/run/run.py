"""A run: its settings, its store, its steps, what came of them, and its page in MLflow.

    run = Run(load_config("demo"))
    run.step("train").run()             # computes it, continues it, or finds that it has finished before
    run.result("evaluate").metrics      # what is there, whoever computed it
    Run.open("demo").rollouts()         # every response, as a DataFrame

Command line, pipelines, reports and studies enter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.config import Config, Role
from fipo.errors import ConfigError, DataError, ObjectNotFound
from fipo.files import replacing
from fipo.run import frames
from fipo.run.identity import Identity, fits
from fipo.run.result import StepResult, digest
from fipo.run.results import Results
from fipo.run.rollouts import Rollouts
from fipo.run.step import STEPS, step_named, steps_to
from fipo.run.workspace import Workspace
from fipo.tracking import RunIdentity, link_pipeline_run, parent_run, reconcile, replay_left

if TYPE_CHECKING:
    import pandas as pd

    from fipo.run.verify import Link

SETTINGS = "config.yaml"
"""File of a run's resolved settings, in its folder and in the object store."""


class Run:
    """The run that `config` describes: the same for all its steps."""

    def __init__(self, config: Config) -> None:
        self.config, self.name, self.directory = config, config.run.name, config.run_directory

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.config.storage_uri})"

    @cached_property
    def results(self) -> Results:
        """What its steps have left in the store."""
        return Results(self.config)

    @property
    def key(self) -> str:
        """Key of its run in MLflow: the same settings continue it, others begin a new one."""
        return f"{self.name}/{digest(self.config.without(Role.PLACEMENT))[:12]}"

    @cached_property
    def parent(self) -> RunIdentity:
        """Its run in MLflow, the parent of its steps' runs."""
        return parent_run(
            self.config.tracking_uri,
            experiment=self.config.tracking.experiment_prefix,
            run_name=self.title("", self.key.rpartition("/")[2]),
            run_key=self.key,
            artifact_root=f"{self.config.storage_uri}/mlflow",
        )

    def title(self, step: str, digest: str) -> str:
        """`demo-fipo-s0-3f2a`: what tells runs of one kind apart in MLflow's lists and legends, which have little room.

        The kind is the experiment's name, and all settings are columns; the end tells of other settings or inputs under
        the same name. What the run's own name says already, as those of a study's do, is not said twice.
        """
        loss = [self.config.algorithm.loss] if step in ("train", "") else []
        said = self.name.split("-")
        more = [word for word in (*loss, f"s{self.config.run.seed}") if word not in said]
        return "-".join([self.name, *more, digest[:4]])

    def step(self, name: str, identity: Identity | None = None) -> Workspace:
        """One of its steps, on the results of earlier ones that fit its settings.

        Args:
            name: one of `fipo.run.step.STEPS`.
            identity: where it is known already, as in the processes of a job.

        Raises:
            ConfigError: there is no such step, or one that it builds on has not finished with these settings and
                inputs.
            DataError: something that it reads is not there.
        """
        return Workspace(self, step_named(name).name, identity)

    def step_as_left(self, name: str) -> Workspace:
        """One of its steps on the newest results, whatever settings and inputs they came from, to read them.

        Raises:
            ConfigError: a step that it builds on has not finished.
        """
        newest = self.results.all_newest()
        upstream = {step: newest[step].fingerprint if step in newest else "" for step in STEPS[name].upstream}
        own = newest[name].fingerprint if name in newest else digest(upstream)
        return Workspace(self, name, Identity(own, own, "", {}, upstream))

    def result(self, step: str) -> StepResult | None:
        """The newest result of a step, whatever settings and inputs it came from; None before there is one."""
        return self.results.newest(step)

    @classmethod
    def open(cls, reference: str, overrides: Sequence[str] = ()) -> Run:
        """A run that exists, to read it: its name in `runs/`, its folder, or `s3://bucket/prefix/RUN`.

        Raises:
            ConfigError, StorageError: see `fipo.run.found.find_run`.
        """
        from fipo.run.found import find_run

        return find_run(reference, overrides).run

    def rollouts(self, step: int | None = None) -> pd.DataFrame:
        """Every response that training has sampled, one row each, while it runs too; of one step or of all.

        docs/rollouts.md has the columns; those of single tokens hold arrays.

        Raises:
            DataError: nothing is recorded, or not this step.
        """
        return frames.rollouts(self, step)

    def metrics(self, step: str = "train") -> pd.DataFrame:
        """What a step has logged: a row for each of its own steps, a column for each metric (docs/metrics.md).

        What the machine did (`system/`) is counted by samples, and left out.

        Raises:
            ConfigError: there is no such step.
            ObjectNotFound: the step has not begun on this machine, and not finished on another.
        """
        return frames.metrics(self, step)

    def problems(self) -> pd.DataFrame:
        """Every response to the benchmarks, by the warmed-up and the trained `model`.

        Raises:
            ObjectNotFound: `evaluate` has not finished.
        """
        return frames.problems(self)

    def rollout_records(self) -> Rollouts:
        """The records of all responses, of all settings that it was trained with."""
        return Rollouts(self.results.store, f"{self.name}/train/rollouts/")

    def trained_steps(self) -> tuple[str, list[int]]:
        """The lineage of training with the present settings, else the last that there is, and its recorded steps.

        Raises:
            DataError: nothing is recorded.
        """
        lineages = self.rollout_records().lineages()
        if not lineages:
            raise DataError(f"run {self.name!r}: no step of training is recorded in {self.rollout_records().uri}")
        try:
            present = self.step("train").identity.lineage[:12]
        except (ConfigError, DataError):  # what training reads is not on this machine
            present = ""
        lineage = present if present in lineages else max(lineages)
        return lineage, lineages[lineage]

    def is_current(self, goal: str) -> bool:
        """Whether the newest results of the steps to `goal` are of the present settings and of one another.

        As far as the store tells: nothing that steps read from outside is looked at.
        """
        newest = self.results.all_newest()
        return all(step in newest and fits(newest[step], self.config, newest) for step in steps_to(goal))

    def finished(self, goal: str) -> dict[str, StepResult]:
        """Results of the steps to `goal`, in order, up to the first that is still to be done with these settings."""
        found: dict[str, StepResult] = {}
        for step in steps_to(goal):
            result = self.step(step).finished()
            if result is None:
                break
            found[step] = result
        return found

    def adopt(self, other: Run, steps: Sequence[str]) -> None:
        """Take finished steps of another run in the same store as this one's: variants share what comes before them.

        Raises:
            ObjectNotFound: the other run has not finished one of them.
        """
        for step in steps:
            found = other.result(step)
            if found is None:
                raise ObjectNotFound(f"{other.results.uri}: step {step!r} has not finished")
            self.results.put(found)

    def verify(self) -> list[Link]:
        """What its registered model was trained on, each claim held against what is there: see `fipo.run.verify`."""
        from fipo.run.verify import verify

        return verify(self)

    def write_settings(self, folder: Path | None = None) -> Path:
        """Write the resolved settings to its folder, or another; `load_config` reads them back."""
        path = (folder or self.directory) / SETTINGS
        with replacing(path, private=True) as unfinished:
            unfinished.write_text(self.config.to_yaml(), encoding="utf-8")
        return path

    def record_settings(self) -> None:
        """Keep the settings beside its results; those of a later run of the same name replace them."""
        key, settings = f"{self.name}/{SETTINGS}", self.config.to_yaml().encode()
        try:
            there = self.results.store.get(key)
        except ObjectNotFound:
            there = b""
        if there != settings:
            self.results.store.put(key, settings)

    def link(self, pipeline_run: str) -> str:
        """Let its pages in MLflow and Kubeflow's run of this id point at each other; never fails for MLflow's sake.

        Returns:
            Its page in MLflow, for a link on Kubeflow's pages; empty if there is none or MLflow cannot be reached.
        """
        page, public_uri = self.config.pipeline_page(pipeline_run), self.config.links.mlflow
        return link_pipeline_run(self.parent, run_id=pipeline_run, page=page, public_uri=public_uri)

    def close(self, status: str, pipeline_run: str = "") -> None:
        """Close what it left open in MLflow, truthfully: by the pipeline's exit handler, or after the last step.

        Args:
            status: the pipeline's final state, in Kubeflow's word (`fipo.tracking.runs.ENDS`).
            pipeline_run: id of Kubeflow's run; a run in MLflow that is linked to it is closed too, though `configure`
                gave it settings, such as a registered model's folder, that these lack.
        """
        replay_left(self.directory)
        reconcile(self.config.tracking_uri, run_key=self.key, status=status, pipeline_run=pipeline_run)
