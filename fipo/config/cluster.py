"""On which devices and machines the work is done, and where the model is served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fipo.config.base import Quantity, Role, Section, TolerationField


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
    compile_layers: Annotated[bool, Role.PLACEMENT] = True
    """On GPUs, compile the model's layers (`torch.compile`), which fuses their small kernels and takes a start some
    seconds; not with ZeRO-3, `tiled_mlp`, `sequence_parallel` or experts. What generates is not compiled."""
    sequence_parallel: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """Ranks that share each packed row, so that one longer than a GPU can hold fits; best within a machine."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 on GPU, fp32 on CPU."""
    timeout_seconds: Annotated[float, Role.PLACEMENT] = Field(1800.0, gt=0.0)
    """A collective that takes longer fails, so that a frozen rank is noticed; a rollout server that has work and makes
    no progress for so long is given up."""
    max_restarts: Annotated[int, Role.PLACEMENT] = Field(3, ge=0)
    """Times that all workers start again, from the last checkpoint, after one crashed or froze; in a TrainJob its
    runtime says how often."""


class TrainJobs(Section):
    """The distributed steps as Kubeflow TrainJobs; without `runtime` they run in the step's own process."""

    runtime: Annotated[str, Role.PLACEMENT] = ""
    """Name of the TrainingRuntime; empty starts torchrun here."""
    vllm_runtime: Annotated[str, Role.PLACEMENT] = ""
    """TrainingRuntime whose image holds vLLM, for the steps that generate with `rollout.engine = vllm`, or with
    `served` and servers elsewhere."""
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
    node_selector: Annotated[dict[str, str], Role.PLACEMENT] = Field({})
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
    image, a secret or a volume is missing. For free nodes and for its queue it waits up to the time limit, and while it
    has no pod also for what others use of a quota."""


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
    memory: Annotated[Quantity, Role.PLACEMENT] = Field("8Gi", min_length=1)
    """Of each pod, as Kubernetes writes quantities; the weights are read through it."""
    node_selector: Annotated[dict[str, str], Role.PLACEMENT] = Field({})
    """Labels of the nodes that may serve it."""
    tolerations: Annotated[tuple[dict[TolerationField, str | int], ...], Role.PLACEMENT] = ()
    """Taints of nodes that are tolerated, as Kubernetes writes them."""
    patience_seconds: Annotated[float, Role.PLACEMENT] = Field(1800.0, gt=0.0)
    """A version that has not answered by then is taken back, and the one before it is served again."""
