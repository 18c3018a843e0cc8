"""All settings of a run, and what they must be together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import model_validator

from fipo.config.algorithm import Algorithm
from fipo.config.base import Section, require
from fipo.config.cluster import Deploy, Distributed, TrainJobs
from fipo.config.data import Data
from fipo.config.evaluation import Evaluation, Gate, Registry
from fipo.config.model import Model
from fipo.config.rollout import Reward, RolloutSettings
from fipo.config.run import Links, Run, Storage, Tracking
from fipo.config.train import Sft, Train


class Config(Section):
    """All settings of a run."""

    run: Run = Run()
    storage: Storage = Storage()
    tracking: Tracking = Tracking()
    data: Data
    model: Model
    sft: Sft = Sft()
    train: Train = Train()
    algorithm: Algorithm = Algorithm()
    rollout: RolloutSettings = RolloutSettings()
    reward: Reward = Reward()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    registry: Registry = Registry()
    distributed: Distributed = Distributed()
    trainjob: TrainJobs = TrainJobs()
    links: Links = Links()
    deploy: Deploy = Deploy()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._require_updates()
        self._require_rollouts()
        self._require_ranks()
        require(not self.sft.steps or self.data.sft, "data.sft", "at least one source when sft.steps > 0", "none")
        self._require_jobs()
        self._require_benchmarks()
        return self

    def _require_updates(self) -> None:
        train = self.train
        require(
            train.prompts_per_step % train.mini_batch_prompts == 0,
            "train.prompts_per_step",
            f"a multiple of train.mini_batch_prompts ({train.mini_batch_prompts})",
            train.prompts_per_step,
        )
        require(
            self.algorithm.loss != "fipo" or train.updates_per_step > 1,
            "train.mini_batch_prompts",
            "less than train.prompts_per_step with algorithm.loss = fipo: with one update per rollout batch every "
            "influence weight is 1 and FIPO is DAPO (use algorithm.loss = dapo if that is meant)",
            train.mini_batch_prompts,
        )
        require(
            self.algorithm.loss == "fipo" or self.algorithm.placebo == "none",
            "algorithm.placebo",
            f"none with algorithm.loss = {self.algorithm.loss}, which has no influence weights to replace",
            self.algorithm.placebo,
        )

    def _require_rollouts(self) -> None:
        rollout, overlong, correction = self.rollout, self.reward.overlong_buffer_tokens, self.algorithm.correction
        require(
            overlong < rollout.max_response_tokens,
            "reward.overlong_buffer_tokens",
            f"less than rollout.max_response_tokens ({rollout.max_response_tokens})",
            overlong,
        )
        require(
            not overlong or "overlong" in self.reward.functions,
            "reward.overlong_buffer_tokens",
            "0 where reward.functions has no `overlong`, for nothing would be shaped by it (add overlong: 1.0)",
            overlong,
        )
        require(
            not rollout.max_staleness or correction != "none",
            "algorithm.correction",
            "truncate or mask with rollout.max_staleness: responses come from older weights",
            correction,
        )
        require(
            not rollout.max_staleness or rollout.engine != "vllm",
            "rollout.engine",
            "served or transformers with rollout.max_staleness: vllm beside the trainer sleeps during the updates",
            rollout.engine,
        )
        require(
            rollout.max_staleness <= 1 or rollout.engine == "served",
            "rollout.max_staleness",
            "0 or 1 unless rollout.engine = served: others end a batch before they take new weights",
            rollout.max_staleness,
        )

    def _require_ranks(self) -> None:
        distributed = self.distributed
        least = {"none": 0, "optimizer": 1, "parameters": 3}[distributed.offload]
        require(
            distributed.zero_stage >= least,
            "distributed.zero_stage",
            f"at least {least} with distributed.offload = {distributed.offload}",
            distributed.zero_stage,
        )
        require(
            distributed.sequence_parallel == 1 or self.algorithm.placebo not in ("shuffle", "other"),
            "distributed.sequence_parallel",
            f"1 with algorithm.placebo = {self.algorithm.placebo}, which needs whole rows",
            distributed.sequence_parallel,
        )

    def _require_jobs(self) -> None:
        jobs, engine = self.trainjob, self.rollout.engine
        require(
            not jobs.runtime or self.run.directory.is_absolute(),
            "run.directory",
            "an absolute path on a volume that all pods share, with trainjob.runtime",
            self.run.directory,
        )
        require(
            not jobs.runtime
            or engine == "transformers"
            or jobs.vllm_runtime
            or (engine == "served" and jobs.rollout_runtime),
            "trainjob.vllm_runtime",
            f"a TrainingRuntime whose image holds vLLM, with trainjob.runtime and rollout.engine = {engine}: that of "
            "trainjob.runtime does not (the overlay gpu has fipo-vllm)",
            "none",
        )

    def _require_benchmarks(self) -> None:
        for field, name in [
            ("gate.benchmark", self.gate.benchmark),
            *((f"gate.rules.{index}.benchmark", rule.benchmark) for index, rule in enumerate(self.gate.rules)),
        ]:
            require(not name or name in self.data.benchmarks, field, f"one of {', '.join(self.data.benchmarks)}", name)

    @property
    def run_directory(self) -> Path:
        """Local folder of this run."""
        return self.run.directory / self.run.name

    @property
    def storage_uri(self) -> str:
        """`storage.uri`, or the folder that stands in for it."""
        return self.storage.uri or (self.run.directory / "objects").absolute().as_uri()

    @property
    def tracking_uri(self) -> str:
        """`tracking.uri`, or the database that stands in for it."""
        return self.tracking.uri or f"sqlite:///{(self.run.directory / 'mlflow.db').absolute()}"

    def mlflow_page(self, page: str) -> str:
        """A page of MLflow at the address that browsers reach; `page` may be at any address of it, or empty."""
        _, separator, fragment = page.partition("/#/")
        return f"{self.links.mlflow}/#/{fragment}" if self.links.mlflow and separator else page

    def pipeline_page(self, run_id: str) -> str:
        """The page of a run in Kubeflow Pipelines' UI; empty where `links.pipelines` is."""
        return f"{self.links.pipelines}/#/runs/details/{run_id}" if self.links.pipelines and run_id else ""

    @property
    def gate_benchmark(self) -> str:
        """`gate.benchmark`, or the first benchmark."""
        return self.gate.benchmark or next(iter(self.data.benchmarks))

    def to_yaml(self) -> str:
        """Every setting, resolved; `load_config` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def digest(self, *sections: str) -> str:
        """SHA-256 (hex) of the named sections, or of all."""
        dumped = self.model_dump(mode="json", include=set(sections) or None)
        return hashlib.sha256(json.dumps(dumped, sort_keys=True).encode()).hexdigest()

    def flat(self) -> dict[str, Any]:
        """`{"train.learning_rate": 1e-06, …}`: lists are one value, for MLflow's params."""
        return dict(flatten(self.model_dump(mode="json")))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Its leaves by dotted name; a list is one."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
