"""How responses are sampled, and what they are worth."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fipo.config.base import Role, Section, require
from fipo.config.sandbox import Sandbox
from fipo.uris import check_server


class RolloutSettings(Section):
    """How responses are sampled, and by which engine."""

    engine: Literal["transformers", "vllm", "served"] = "transformers"
    """`transformers`: in the trainer's processes, no other package needed. `vllm`: there too, asleep while training.
    `served`: vLLM servers of their own, at `servers`."""
    tensor_parallel: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """GPUs that share one copy of the model in vLLM; a divisor of the processes on a node with `vllm`."""
    gpu_memory_fraction: Annotated[float, Role.PLACEMENT] = Field(0.5, gt=0.0, lt=1.0)
    """Share of each GPU that weights and cache of `vllm` take while it generates beside the trainer; in
    evaluation, which has no trainer, it is at least 0.9."""
    servers: Annotated[tuple[str, ...], Role.PLACEMENT] = ()
    """Addresses of the `served` vLLM servers, `http://host:port`; a TrainJob with rollout replicas knows its own."""
    group_size: int = Field(16, ge=2)
    """Responses to one prompt."""
    max_response_tokens: int = Field(20480, ge=1)
    """Generation stops here, in training and evaluation; an environment's observations count."""
    max_turns: int = Field(8, ge=1)
    """Turns of one response at most, where its source has an environment."""
    max_observation_tokens: int = Field(512, ge=2)
    """Tokens of one observation at most; of a longer one the middle is left out."""
    environment_workers: Annotated[int, Role.PLACEMENT] = Field(8, ge=1)
    """Environments that answer at once on each rank, and with them programs of the tool `python` that run at once."""
    temperature: float = Field(1.0, gt=0.0)
    """Logits are divided by it, in sampling and in the trained policy alike."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """1, and nothing else: the loss takes log-probs of the whole distribution. `evaluation.top_p` may be less."""
    mismatch_limit: Annotated[float, Role.PLACEMENT] = Field(0.1, gt=0.0)
    """Nats that the log-probs of trainer and engine may be apart in the mean, on the same weights: a run is refused
    before its first update when they are further, and a step warns."""
    max_staleness: int = Field(0, ge=0)
    """Steps that the weights which sample a token may be older than those that learn from it; above 0, so many rollout
    batches are sampled ahead, during updates, and `algorithm.correction` makes up for it. With `served`, what is under
    way goes on with the new weights of each step; more than 1 is for it alone. 0 waits, and repeats exactly."""
    max_batch_tokens: Annotated[int, Role.PLACEMENT] = Field(65536, ge=1)
    """Key/value cache positions that `transformers` has in use at once; lower it when memory runs out."""

    @field_validator("servers")
    @classmethod
    def _are_servers(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            check_server(server, "they share FIPO_ROLLOUT_TOKEN")
        return servers

    @model_validator(mode="after")
    def _whole_distribution(self) -> Self:
        """Outside of what a cut keeps, tokens have no probability in the engine but some in the trainer: with identical
        policies the mean importance weight is the share that was kept."""
        require(
            self.top_p == 1.0,
            "top_p",
            "1: the policy that is trained is the whole distribution, and samples from a part of it make every "
            "importance weight wrong (evaluation.top_p may be less)",
            self.top_p,
        )
        return self


class Reward(Section):
    """Correct or not, by the source's grader, DAPO's overlong shaping, and functions of your own."""

    functions: dict[str, float] = Field({"accuracy": 1.0, "overlong": 1.0}, min_length=1)
    """Reward functions and their weights: `accuracy`, `partial` (the grader's score where it gives one), `overlong`, an
    entry point of the group `fipo.rewards`, or `package.module:function`. The reward is their weighted sum; weight 0
    only logs."""
    overlong_buffer_tokens: int = Field(0, ge=0)
    """The penalty grows from 0 over the last so many tokens before `rollout.max_response_tokens`, or before the end of
    the model's context where that comes first; 0 is none."""
    overlong_penalty: float = Field(1.0, ge=0.0)
    """Penalty at the length limit."""
    timeout_seconds: float = Field(5.0, gt=0.0)
    """Time for one response; a grader over it is killed and the response masked. `tests` has `sandbox.cpu_seconds`."""
    workers: Annotated[int, Role.PLACEMENT] = Field(1, ge=1)
    """Grader processes on each rank."""
    sandbox: Sandbox = Sandbox()
