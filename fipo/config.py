"""The one typed tree of settings: defaults < recipe YAML < command line. Secrets never enter it; it imports no torch.

    config = load_config("demo", ["train.learning_rate=3e-6"])

A recipe is the name of a shipped file (`fipo/recipes/demo.yaml` is `demo`) or a path. `extends: NAME` starts from
another recipe. Unknown keys and impossible values raise `ConfigError` with the field, the requirement and the value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from fipo.errors import ConfigError


class Role(Enum):
    """What a setting means for the results of the steps that read its section."""

    IDENTITY = "identity"
    """Another value is another result. A setting that says nothing else is this."""
    LENGTH = "length"
    """Another value is another result, but one that continues the work of a shorter one."""
    MEASURING = "measuring"
    """Changes what `evaluate` and `score` measure, and no data and no model."""
    PLACEMENT = "placement"
    """How and where the work is done, not what comes of it: may change between a crash and its continuation. Also where
    an input is: what counts is what is in it."""


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Quantity = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?([kMGTPE]|[KMGTPE]i)?)?$")]
TolerationField = Literal["key", "operator", "value", "effect", "tolerationSeconds"]


class Section(BaseModel):
    """Base of every section: immutable, no unknown keys, the docstring under a field is its help.

    A field says its role where it is not `Role.IDENTITY`: `directory: Annotated[Path, Role.PLACEMENT]`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    def without(self, *roles: Role) -> dict[str, Any]:
        """What is left, as JSON would hold it, without the settings of these roles at any depth."""
        return {
            name: _without(getattr(self, name), roles)
            for name, field in type(self).model_fields.items()
            if role_of(field) not in roles
        }


def role_of(field: FieldInfo) -> Role:
    """What a setting means for results."""
    return next((entry for entry in field.metadata if isinstance(entry, Role)), Role.IDENTITY)


def _without(value: Any, roles: tuple[Role, ...]) -> Any:
    if isinstance(value, Section):
        return value.without(*roles)
    if isinstance(value, Mapping):
        return {key: _without(entry, roles) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_without(entry, roles) for entry in value]
    return str(value) if isinstance(value, Path) else value


class Run(Section):
    """What this run is called and where it works."""

    name: Annotated[Name, Role.PLACEMENT] = "run"
    """Names the folder, the object-store prefix and the MLflow runs."""
    recipe: Annotated[str, Role.PLACEMENT] = ""
    """Recipe that these settings began with; filled in when a recipe is read."""
    seed: int = Field(0, ge=0)
    """Determines data order, initial weights and sampling."""
    directory: Annotated[Path, Role.PLACEMENT] = Path("runs")
    """Local folder for work in progress, the summary and the report; `directory/name` is this run's."""


class Storage(Section):
    """Where data sets, weights and results are kept."""

    uri: Annotated[str, Role.PLACEMENT] = ""
    """`file:///folder` or `s3://bucket/prefix`, with copies of the checkpoints too; empty is the folder `objects` in
    `run.directory`, without them."""


class Tracking(Section):
    """Where metrics go."""

    uri: str = ""
    """An MLflow tracking URI; empty is `sqlite:///…/mlflow.db` in `run.directory`."""
    experiment_prefix: Annotated[str, Role.PLACEMENT] = "fipo"
    """Experiments are `<prefix>/<step>`: runs of one kind overlay in MLflow's comparison page."""


class RunningSums(Section):
    """A seeded generator of verifiable arithmetic problems with demonstrations of differing depth."""

    digits: int = Field(8, ge=2, le=64)
    """Numbers to add in one problem."""
    modulus: int = Field(5, ge=2, le=10)
    """Sums are taken modulo this; every number is below it."""
    seed: int = Field(0, ge=0)
    """Two generators with different seeds make different problems."""
    worked: Probability = 0.4
    """Share of demonstrations that write out every running sum."""
    partly: Probability = 0.2
    """Share of demonstrations that write out the first half; the rest answer at once."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        _require(self.worked + self.partly <= 1.0, "worked + partly", "at most 1", self.worked + self.partly)
        return self


class Source(Section):
    """Where problems come from: `uri` or `generator`."""

    uri: Annotated[str, Role.PLACEMENT] = ""
    """A JSONL or parquet file (a path, `file://`, `s3://`) or a data set of the hub (`hf://organisation/name`)."""
    subset: str = ""
    """Configuration name of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: Annotated[str, Role.PLACEMENT] = ""
    """Commit of a hub data set; pin it for runs to be comparable."""
    prompt_column: str = "prompt"
    """Column of the problem: a string, or a list of chat messages (the DAPO-Math-17k layout)."""
    answer_column: str = "answer"
    """Column of the reference answer; dots reach into a struct (`reward_model.ground_truth`)."""
    answer_after: str = ""
    """The answer is what follows the last occurrence of this text in its column (GSM8K: `####`)."""
    response_column: str = "response"
    """Column of the demonstration, for `data.sft`."""
    generator: RunningSums | None = None
    """Make the problems instead of reading them."""
    limit: int | None = Field(None, ge=1)
    """Take at most this many rows; how many to make, with a generator."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = "both" if self.uri and self.generator else "neither" if not (self.uri or self.generator) else "one"
        _require(given == "one", "uri, generator", "exactly one of the two", given)
        _require(not self.generator or self.limit, "limit", "set with a generator", self.limit)
        return self


class Benchmark(Source):
    """A held-out set and how it is measured; what is empty here follows the run's other settings."""

    prompt_template: str = ""
    """Text around the problem; empty is `data.prompt_template`: the model is asked as it was trained."""
    grader: Annotated[Literal["math", "exact"], Role.MEASURING] = "math"
    """`math` compares answers as mathematics; `exact` as text, spelling normalised."""
    samples: Annotated[int | None, Role.MEASURING] = Field(None, ge=1)
    """Responses to each problem; null is `evaluation.samples`."""
    temperature: Annotated[float | None, Role.MEASURING] = Field(None, ge=0.0)
    """null is `evaluation.temperature`."""
    top_p: Annotated[float | None, Role.MEASURING] = Field(None, gt=0.0, le=1.0)
    """null is `evaluation.top_p`."""

    @model_validator(mode="after")
    def _template(self) -> Self:
        _require("{prompt}" in (self.prompt_template or "{prompt}"), "prompt_template", "a text with {prompt}", "none")
        return self


class Data(Section):
    """What is learned from and what is measured on."""

    train: tuple[Source, ...] = Field(min_length=1)
    """Problems for RL: prompt and answer."""
    sft: tuple[Source, ...] = ()
    """Demonstrations for the warm-up: prompt, response, answer."""
    benchmarks: dict[Name, Benchmark] = Field(min_length=1)
    """Held-out problems: names of shipped benchmarks or files (`[aime-2024, mine.yaml]`), or settings by name. Whatever
    overlaps them is removed from `train` and `sft`."""
    prompt_template: str = "{prompt}"
    """Text around the problem; must hold `{prompt}`."""
    chat: bool = False
    """Wrap the prompt as one user message in the tokenizer's chat template."""
    max_prompt_tokens: int = Field(2048, ge=1)
    """Longer prompts are dropped and counted."""
    near_duplicate_jaccard: Probability | None = 0.9
    """Of problems whose word 5-grams overlap at least this much, the first is kept; null keeps them all."""
    decontamination_ngram: int = Field(13, ge=1)
    """A problem that shares this many consecutive words with a benchmark is removed (a shorter one: when equal)."""
    validation_fraction: Probability = 0.02
    """Share of each data set that is held out, chosen by content hash."""

    @model_validator(mode="after")
    def _template(self) -> Self:
        _require("{prompt}" in self.prompt_template, "prompt_template", "a text with {prompt}", self.prompt_template)
        return self

    def asked_as(self, benchmark: Name) -> Self:
        """These settings with the benchmark's own prompt template, if it has one."""
        own = self.benchmarks[benchmark].prompt_template
        return self.model_copy(update={"prompt_template": own}) if own else self


class Architecture(Section):
    """A small Qwen3 made from scratch, with a word-level tokenizer."""

    vocabulary: tuple[str, ...] = Field(min_length=2)
    """The words of the tokenizer, separated by blanks in the text."""
    hidden_size: int = Field(128, ge=8)
    """Width of the residual stream."""
    intermediate_size: int = Field(512, ge=8)
    """Width of the feed-forward layers."""
    layers: int = Field(2, ge=1)
    """Transformer layers."""
    attention_heads: int = Field(4, ge=1)
    """Query heads of a layer; they share `hidden_size`."""
    key_value_heads: int = Field(4, ge=1)
    """Key/value heads of a layer; fewer than query heads is grouped-query attention."""
    max_position_embeddings: int = Field(256, ge=8)
    """Longest sequence, prompt and response."""
    tie_word_embeddings: bool = True
    """Use the input embeddings as the LM head."""

    @model_validator(mode="after")
    def _heads(self) -> Self:
        _require(
            self.hidden_size % self.attention_heads == 0,
            "hidden_size",
            "a multiple of attention_heads",
            self.hidden_size,
        )
        _require(
            self.attention_heads % self.key_value_heads == 0,
            "attention_heads",
            "a multiple of key_value_heads",
            self.attention_heads,
        )
        return self


class Model(Section):
    """The model to start from: `name_or_path` or `architecture`."""

    name_or_path: Annotated[str, Role.PLACEMENT] = ""
    """A model of the hub or a local folder, in safetensors."""
    revision: Annotated[str, Role.PLACEMENT] = ""
    """Commit of a hub model; pin it for runs to be comparable."""
    max_position_embeddings: int | None = Field(None, ge=8)
    """Longest sequence, prompt and response, in place of what the loaded model says; null leaves it."""
    architecture: Architecture | None = None
    """Build a model with random weights instead of loading one."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        count = bool(self.name_or_path) + (self.architecture is not None)
        _require(count == 1, "name_or_path, architecture", "exactly one of the two", f"{count} given")
        return self


class Optimizer(Section):
    """AdamW (betas 0.9, 0.999), constant learning rate after a linear warm-up."""

    learning_rate: float = Field(1e-6, gt=0.0)
    """Constant after the warm-up."""
    warmup_steps: int = Field(10, ge=0)
    """Optimizer steps until the full learning rate."""
    weight_decay: float = Field(0.1, ge=0.0)
    """AdamW's decoupled decay."""
    grad_clip: float = Field(1.0, gt=0.0)
    """Largest gradient norm."""
    skip_grad_norm: float | None = Field(None, gt=0.0)
    """An update is left out when its gradient norm is above this; one that is not finite is left out in any case."""
    max_skipped_updates: int = Field(3, ge=1)
    """So many left out in a row return training to the last checkpoint, from where it takes other data."""
    max_tokens_per_micro_batch: Annotated[int, Role.PLACEMENT] = Field(32768, ge=1)
    """Tokens in one forward pass on one rank; lower it when memory runs out. It does not change the result."""
    checkpoint_every: Annotated[int, Role.PLACEMENT] = Field(10, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: Annotated[int, Role.PLACEMENT] = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    keep_best_checkpoints: Annotated[int, Role.PLACEMENT] = Field(0, ge=0)
    """Besides them, those with the best validation result: accuracy in RL, loss in the warm-up."""
    keep_checkpoints_every: Annotated[int | None, Role.PLACEMENT] = Field(None, ge=1)
    """Besides them, each whose step is a multiple of this."""


class Sft(Optimizer):
    """Supervised warm-up on `data.sft`; `steps: 0` starts RL from the model as it is."""

    steps: Annotated[int, Role.LENGTH] = Field(0, ge=0)
    """Optimizer steps."""
    learning_rate: float = Field(1e-5, gt=0.0)
    """Constant after the warm-up."""
    batch_size: int = Field(64, ge=1)
    """Demonstrations in one optimizer step, over all ranks."""
    evaluate_every: int = Field(100, ge=1)
    """Steps between measurements of the held-out loss."""
    checkpoint_every: Annotated[int, Role.PLACEMENT] = Field(100, ge=1)
    """Steps between checkpoints."""


class Train(Optimizer):
    """The RL loop. One step is one rollout batch and `prompts_per_step / mini_batch_prompts` optimizer updates."""

    steps: Annotated[int, Role.LENGTH] = Field(500, ge=1)
    """Rollout batches."""
    token_budget: Annotated[int | None, Role.LENGTH] = Field(None, ge=1)
    """Stop once this many response tokens have been sampled in all, if that is before `steps`; null is no limit."""
    prompts_per_step: int = Field(512, ge=1)
    """Prompts with a learning signal in one rollout batch."""
    mini_batch_prompts: int = Field(64, ge=1)
    """Prompts in one optimizer update."""
    dynamic_sampling: bool = True
    """Draw more prompts in place of groups whose accuracy has no spread (DAPO)."""
    max_generation_rounds: int = Field(10, ge=1)
    """Rounds of generation for one step at most; what is there by then is trained on."""
    evaluate_every: int = Field(10, ge=1)
    """Steps between evaluations on the validation split."""
    evaluate_problems: int = Field(256, ge=1)
    """Validation problems to evaluate on, one response each."""

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates per rollout batch."""
        return self.prompts_per_step // self.mini_batch_prompts


class Algorithm(Section):
    """The loss (arXiv 2603.19835, Eqs. 1 to 8); defaults are the paper's 7B setting."""

    loss: Literal["fipo", "dapo", "grpo", "dr_grpo", "gspo", "cispo"] = "fipo"
    """`dapo`: FIPO without influence weights. `grpo`: symmetric clip `clip_low`, mean over tokens, then responses;
    `dr_grpo`: GRPO without its length and difficulty bias. `gspo`: one ratio for a response (clips of about 3e-4).
    `cispo`: the clipped ratio as a weight, so that no token loses its gradient."""
    half_life: float = Field(32.0, gt=0.0)
    """The paper's tau, in tokens: the weight of a later token halves at this distance."""
    influence_clip_low: Probability = 0.2
    """Influence weights are at least 1 - this."""
    influence_clip_high: float = Field(0.2, ge=0.0)
    """Influence weights are at most 1 + this."""
    safety_ratio: float = Field(3.0, gt=1.0)
    """Tokens with a negative advantage and an importance ratio above this are not amplified."""
    safety: Literal["reset", "clamp"] = "reset"
    """`reset` their weight to 1 (paper) or `clamp` it to [0.8, 1] (reference code)."""
    clip_low: Probability = 0.2
    """The importance ratio is clipped at 1 - this."""
    clip_high: float = Field(0.28, gt=0.0)
    """The importance ratio is clipped at 1 + this (DAPO's clip-higher)."""
    dual_clip: float = Field(10.0, gt=1.0)
    """Tokens above this ratio leave Future-KL (the mask M_k), and bound the loss where the advantage is negative."""
    mask_future_kl: bool = True
    """Leave tokens above `dual_clip` out of Future-KL; false is the paper's ablation."""
    drop_dual_clipped_responses: bool = False
    """Drop a response with more than one dual-clipped token (reference code)."""
    correction: Literal["none", "truncate", "mask"] = "none"
    """Weigh the loss by trainer over inference engine probabilities, truncated or masked beyond the threshold."""
    correction_level: Literal["token", "sequence"] = "token"
    """Correct each token, or each response by its geometric mean."""
    correction_threshold: float = Field(2.0, gt=1.0)
    """Weights above this are truncated, or masked there and below its inverse."""
    placebo: Literal["none", "shuffle", "mean", "sign"] = "none"
    """Control for experiments: influence weights shuffled in the response, averaged over it, or only their sign."""


class RolloutSettings(Section):
    """How responses are sampled, and by which engine."""

    engine: Literal["transformers", "vllm", "served"] = "transformers"
    """`transformers`: in the trainer's processes, no other package needed. `vllm`: there too, asleep while training.
    `served`: vLLM servers of their own, at `servers`."""
    tensor_parallel: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """GPUs that share one copy of the model in vLLM; a divisor of the processes on a node with `vllm`."""
    gpu_memory_fraction: Annotated[float, Role.PLACEMENT] = Field(0.5, gt=0.0, lt=1.0)
    """Share of each GPU that weights and cache of `vllm` take while it generates beside the trainer."""
    servers: Annotated[tuple[str, ...], Role.PLACEMENT] = ()
    """Addresses of the `served` vLLM servers, `http://host:port`; a TrainJob with rollout replicas knows its own."""
    group_size: int = Field(16, ge=2)
    """Responses to one prompt."""
    max_response_tokens: int = Field(20480, ge=1)
    """Generation stops here, in training and evaluation."""
    temperature: float = Field(1.0, gt=0.0)
    """Logits are divided by it, in sampling and in the trained policy alike."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Sample from the most probable tokens that make up this share."""
    one_step_ahead: bool = False
    """Sample the next rollout batch during the updates on this one. Its responses are one step stale, which
    `algorithm.correction` makes up for; pays where engine and trainer have devices of their own."""
    max_batch_tokens: Annotated[int, Role.PLACEMENT] = Field(65536, ge=1)
    """Key/value cache positions that `transformers` has in use at once; lower it when memory runs out."""


class Reward(Section):
    """Correct or not, by the verifier, DAPO's overlong shaping, and functions of your own."""

    functions: dict[str, float] = Field({"accuracy": 1.0, "overlong": 1.0}, min_length=1)
    """Reward functions and their weights: `accuracy`, `overlong`, an entry point of the group `fipo.rewards`, or
    `package.module:function`. The reward is their weighted sum; weight 0 only logs."""
    overlong_buffer_tokens: int = Field(0, ge=0)
    """The penalty grows from 0 over the last so many tokens before `rollout.max_response_tokens`; 0 is none."""
    overlong_penalty: float = Field(1.0, ge=0.0)
    """Penalty at the length limit."""
    timeout_seconds: float = Field(5.0, gt=0.0)
    """Time for one response; a verifier over it is killed and the response masked."""
    workers: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """Verifier processes on each rank."""


class Evaluation(Section):
    """How the held-out benchmarks are sampled."""

    samples: int = Field(32, ge=1)
    """Responses to each problem: the k of avg@k, cons@k and pass@k."""
    temperature: float = Field(1.0, ge=0.0)
    """0 takes the most probable token."""
    top_p: float = Field(0.7, gt=0.0, le=1.0)
    """Sample from the most probable tokens that make up this share."""


Score = Literal["avg_at_k", "cons_at_k", "pass_at_k"]


class GateRule(Section):
    """One comparison with the present champion, on the same problems."""

    rule: Literal["improves", "keeps"]
    """`improves`: the change's 95% interval lies above `by`. `keeps`: the score falls by at most `by`."""
    benchmark: str = ""
    """Name of a benchmark; empty is `gate.benchmark` for `improves`, and each of them for `keeps`."""
    metric: Score = "avg_at_k"
    """Score that is compared."""
    by: Probability = 0.0
    """In the score's unit: 0.02 is two percentage points."""


class Gate(Section):
    """What a model must show to become `champion`."""

    benchmark: str = ""
    """Name of a benchmark in `data.benchmarks`; empty is the first."""
    metric: Score = "avg_at_k"
    """Score that must reach `gate.minimum`."""
    minimum: Probability = 0.0
    """Least value of the metric."""
    rules: tuple[GateRule, ...] = (GateRule(rule="improves"), GateRule(rule="keeps", by=0.05))
    """All must hold where there is a champion."""


class Registry(Section):
    """MLflow's model registry."""

    model_name: Name = "fipo"
    """Registered model that this run adds a version to."""


class Distributed(Section):
    """The DeepSpeed job."""

    processes: Annotated[int, Role.PLACEMENT] = Field(0, ge=0)
    """Processes on this machine, one a GPU; 0 is all GPUs, or the cores of a machine without, at most four."""
    zero_stage: Annotated[Literal[0, 1, 2, 3], Role.PLACEMENT] = 1
    """What ZeRO shards over the ranks: nothing (0), optimizer (1), gradients too (2), weights too (3). With bf16, stage
    0 also sums the gradients of micro-batches in bf16, the others in fp32."""
    offload: Annotated[Literal["none", "optimizer", "parameters"], Role.PLACEMENT] = "none"
    """What waits in the host's memory: the optimizer, which then steps there (from stage 1), or the weights too
    (stage 3)."""
    activation_checkpointing: Annotated[bool, Role.PLACEMENT] = False
    """Keep only each layer's input and compute the rest again in the backward pass: about a third more work."""
    tiled_mlp: Annotated[bool, Role.PLACEMENT] = False
    """Compute feed-forward layers on `hidden_size` tokens at a time, and again in the backward pass."""
    sequence_parallel: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """Ranks that share each packed row, so that one longer than a GPU can hold fits; best within a machine."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 on GPU, fp32 on CPU."""
    timeout_seconds: Annotated[float, Role.PLACEMENT] = Field(1800.0, gt=0.0)
    """A collective that takes longer fails, so that a frozen rank is noticed."""
    max_restarts: Annotated[int, Role.PLACEMENT] = Field(3, ge=0)
    """Times that all workers start again, from the last checkpoint, after one crashed or froze; in a TrainJob its
    runtime says how often."""


class TrainJobs(Section):
    """The distributed steps as Kubeflow TrainJobs; without `runtime` they run in the step's own process."""

    runtime: Annotated[str, Role.PLACEMENT] = ""
    """Name of the TrainingRuntime; empty starts torchrun here."""
    rollout_runtime: Annotated[str, Role.PLACEMENT] = ""
    """TrainingRuntime with vLLM servers, for the steps that generate with `rollout.engine = served`; empty when the
    servers are elsewhere, at `rollout.servers`."""
    nodes: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """Machines of a job; `distributed.processes` counts on each."""
    gpus_per_node: Annotated[int, Role.PLACEMENT] = Field(0, ge=0)
    """GPUs of each machine (`nvidia.com/gpu`); 0 leaves what the TrainingRuntime says."""
    cpus_per_node: Annotated[int, Role.PLACEMENT] = Field(0, ge=0)
    """CPUs of each machine; 0 leaves what the TrainingRuntime says."""
    memory_per_node: Annotated[Quantity, Role.PLACEMENT] = ""
    """Memory of each machine, as Kubernetes writes it: `1500Gi`; empty leaves what the TrainingRuntime says."""
    node_selector: Annotated[dict[str, str], Role.PLACEMENT] = {}
    """Labels of the nodes that the job may use: `{accelerator: h200}`; added to those of the TrainingRuntime."""
    tolerations: Annotated[tuple[dict[TolerationField, str | int], ...], Role.PLACEMENT] = ()
    """Taints that the pods tolerate, as Kubernetes writes them, in place of the TrainingRuntime's; empty leaves
    those."""
    queue: Annotated[str, Role.PLACEMENT] = ""
    """Kueue LocalQueue that admits the jobs; empty starts them at once."""
    time_limit_seconds: Annotated[int, Role.PLACEMENT] = Field(7 * 24 * 3600, ge=1)
    """A job that takes longer fails."""
    patience_seconds: Annotated[int, Role.PLACEMENT] = Field(900, ge=1)
    """A job whose pods cannot be made or started is given up after this long: a webhook or a quota refuses them, an
    image, a secret or a volume is missing. For free nodes and for its queue it waits up to the time limit."""


class Links(Section):
    """Addresses for people's browsers, where those that the run itself uses work only inside its cluster."""

    mlflow: Annotated[str, Role.PLACEMENT] = ""
    """Of MLflow, such as `https://mlflow.example.com`; empty is `tracking.uri`."""
    pipelines: Annotated[str, Role.PLACEMENT] = ""
    """Of Kubeflow Pipelines' UI, such as `https://kubeflow.example.com/pipeline`; empty leaves its links out."""

    @field_validator("mlflow", "pipelines")
    @classmethod
    def _is_web(cls, address: str) -> str:
        if address and not address.startswith(("http://", "https://")):
            raise ValueError(f"must be an address for browsers, http://... or https://...; got {address!r}")
        return address.rstrip("/")


class Deploy(Section):
    """The champion served in the cluster: the last task of the pipeline, and `fipo deploy`."""

    enabled: Annotated[bool, Role.PLACEMENT] = False
    """Whether the pipeline serves the champion when it has registered a model."""
    name: Annotated[str, Role.PLACEMENT] = Field("", pattern=r"^([a-z]([a-z0-9-]{0,48}[a-z0-9])?)?$")
    """Of the InferenceService or Deployment; empty is `registry.model_name`, as Kubernetes spells names."""
    image: Annotated[str, Role.PLACEMENT] = ""
    """With fipo in it; empty is the one that the task runs in."""
    engine: Annotated[Literal["auto", "transformers", "vllm"], Role.PLACEMENT] = "auto"
    """`auto`: vLLM where it is installed and a GPU is there, otherwise transformers' own server."""
    replicas: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """Pods that serve it."""
    gpus: Annotated[int, Role.PLACEMENT] = Field(0, ge=0)
    """Of each pod; vLLM splits the model over `rollout.tensor_parallel` of them."""
    cpus: Annotated[int, Role.PLACEMENT] = Field(2, ge=1)
    """Of each pod."""
    memory: Annotated[str, Role.PLACEMENT] = "8Gi"
    """Of each pod, as Kubernetes writes quantities; the weights are read through it."""
    node_selector: Annotated[dict[str, str], Role.PLACEMENT] = {}
    """Labels of the nodes that may serve it."""
    tolerations: Annotated[tuple[dict[str, Any], ...], Role.PLACEMENT] = ()
    """Taints of nodes that are tolerated, as Kubernetes writes them."""
    patience_seconds: Annotated[float, Role.PLACEMENT] = Field(1800.0, gt=0.0)
    """A version that has not answered by then is taken back, and the one before it is served again."""


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
        train, algorithm = self.train, self.algorithm
        _require(
            train.prompts_per_step % train.mini_batch_prompts == 0,
            "train.prompts_per_step",
            f"a multiple of train.mini_batch_prompts ({train.mini_batch_prompts})",
            train.prompts_per_step,
        )
        _require(
            algorithm.loss != "fipo" or train.updates_per_step > 1,
            "train.mini_batch_prompts",
            "less than train.prompts_per_step with algorithm.loss = fipo: with one update per rollout batch every "
            "influence weight is 1 and FIPO is DAPO (use algorithm.loss = dapo if that is meant)",
            train.mini_batch_prompts,
        )
        _require(
            self.reward.overlong_buffer_tokens < self.rollout.max_response_tokens,
            "reward.overlong_buffer_tokens",
            f"less than rollout.max_response_tokens ({self.rollout.max_response_tokens})",
            self.reward.overlong_buffer_tokens,
        )
        _require(
            not self.rollout.one_step_ahead or algorithm.correction != "none",
            "algorithm.correction",
            "truncate or mask with rollout.one_step_ahead: its responses come from older weights",
            algorithm.correction,
        )
        _require(
            not self.rollout.one_step_ahead or self.rollout.engine != "vllm",
            "rollout.engine",
            "served or transformers with rollout.one_step_ahead: vllm beside the trainer sleeps during the updates",
            self.rollout.engine,
        )
        distributed = self.distributed
        least = {"none": 0, "optimizer": 1, "parameters": 3}[distributed.offload]
        _require(
            distributed.zero_stage >= least,
            "distributed.zero_stage",
            f"at least {least} with distributed.offload = {distributed.offload}",
            distributed.zero_stage,
        )
        _require(
            distributed.sequence_parallel == 1 or algorithm.placebo != "shuffle",
            "distributed.sequence_parallel",
            "1 with algorithm.placebo = shuffle, which needs whole rows",
            distributed.sequence_parallel,
        )
        _require(not self.sft.steps or self.data.sft, "data.sft", "at least one source when sft.steps > 0", "none")
        _require(
            not self.trainjob.runtime or self.run.directory.is_absolute(),
            "run.directory",
            "an absolute path on a volume that all pods share, with trainjob.runtime",
            self.run.directory,
        )
        for field, name in [
            ("gate.benchmark", self.gate.benchmark),
            *((f"gate.rules.{index}.benchmark", rule.benchmark) for index, rule in enumerate(self.gate.rules)),
        ]:
            _require(not name or name in self.data.benchmarks, field, f"one of {', '.join(self.data.benchmarks)}", name)
        return self

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
        return dict(_flatten(self.model_dump(mode="json")))


def load_config(recipe: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe, apply `key.path=value` overrides (values are YAML) and validate.

    Raises:
        ConfigError: the recipe does not exist or is no mapping, an override is malformed, or a setting is refused.
    """
    tree = _read_recipe(recipe)
    if isinstance(run := tree.setdefault("run", {}), dict):
        run.setdefault("recipe", str(recipe) if str(recipe) in recipe_names() else Path(recipe).stem)
    for override in overrides:
        _name_benchmarks(tree)  # for overrides that reach into them
        key, separator, text = override.partition("=")
        if not (separator and key.strip()):
            raise ConfigError(f"--set {override!r}: expected key.path=value, such as train.learning_rate=3e-6")
        try:
            _set(tree, key.strip().split("."), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: the value {text!r} is not YAML: {error}") from None
    _name_benchmarks(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, recipe)) from None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as `fipo settings` explains it."""

    name: str
    """`train.learning_rate`; `data.train[].uri` is one of each entry, `data.benchmarks.NAME.samples` of each name."""
    default: str
    """As JSON, or `required`."""
    role: Role
    help: str


def describe_settings() -> Iterator[Setting]:
    """Every setting, in the order of the tree."""
    yield from _describe(Config, "")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return _shipped("recipes")


def benchmark_names() -> list[str]:
    """Names of the shipped benchmarks."""
    return _shipped("benchmarks")


def _shipped(folder: str) -> list[str]:
    root = Path(str(files("fipo") / folder))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def _find(kind: str, name: str | Path) -> Path:
    """The shipped file of this name, or the path itself."""
    shipped = files("fipo") / f"{kind}s" / f"{name}.yaml"
    path = Path(str(shipped)) if shipped.is_file() else Path(name)
    if not path.is_file():
        raise ConfigError(f"{kind} {str(name)!r}: expected a YAML file or one of {', '.join(_shipped(f'{kind}s'))}")
    return path


def _read_mapping(kind: str, path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{kind} {path}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{kind} {path}: expected a mapping, found {type(tree).__name__}")
    return tree


def _name_benchmarks(tree: Mapping[str, Any]) -> None:
    """Replace a list of names or files under `data.benchmarks` by what they hold."""
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("benchmarks"), list):
        paths = [_find("benchmark", str(name)) for name in data["benchmarks"]]
        named = {path.stem: _read_mapping("benchmark", path) for path in paths}
        if len(named) < len(paths):
            raise ConfigError(f"data.benchmarks: names must differ; got {', '.join(path.stem for path in paths)}")
        data["benchmarks"] = named


def _read_recipe(recipe: str | Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = _find("recipe", recipe)
    if str(path) in seen:
        raise ConfigError(f"recipe {str(recipe)!r} extends itself: {' -> '.join((*seen, str(path)))}")
    tree = _read_mapping("recipe", path)
    base = tree.pop("extends", None)
    return tree if base is None else _merge(_read_recipe(base, (*seen, str(path))), tree)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for index, key in enumerate(path[:-1]):
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {'.'.join(path)}: {'.'.join(path[: index + 1])} is a value, not a section")
        tree = child
    tree[path[-1]] = value


def _require(condition: object, field: str, requirement: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{field}: must be {requirement}; got {value}")


def _explain(error: ValidationError, recipe: str | Path) -> str:
    lines = [f"{error.error_count()} setting(s) refused in recipe {str(recipe)!r}:"]
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "no such setting"
        got = "" if problem["type"] in ("value_error", "missing") else f"; got {problem['input']!r}"
        lines.append(f"  {field + ': ' if field else ''}{message}{got}")
    return "\n".join(lines)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _describe(section: type[Section], prefix: str) -> Iterator[Setting]:
    for name, field in section.model_fields.items():
        inner, repeated = _section_in(field.annotation)
        if inner and not repeated and not field.is_required() and field.get_default() is not None:
            yield from _describe(inner, f"{prefix}{name}.")
            continue
        if not (inner and section is Config):
            default = "required" if field.is_required() else json.dumps(field.get_default(), default=_as_json)
            help_ = " ".join((field.description or "").split())
            yield Setting(f"{prefix}{name}", default, role_of(field), help_)
        if inner:
            yield from _describe(inner, f"{prefix}{name}{repeated}.")


def _section_in(annotation: Any) -> tuple[type[Section] | None, str]:
    """The section that a field holds, if it does, and how its name goes on: each entry is `[]`, each key `.NAME`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, ""
    repeated = {tuple: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        inner, deeper = _section_in(argument)
        if inner:
            return inner, repeated + deeper
    return None, ""


def _as_json(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Section) else str(value)
