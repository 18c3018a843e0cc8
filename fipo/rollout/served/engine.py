"""Rollouts by vLLM servers of their own: several replicas, each kept busy, none waited for when it is lost."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import torch
import torch.distributed as dist

from fipo.batch import Prompt, RolloutGroup
from fipo.errors import ConfigError, RolloutError
from fipo.rollout.engine import OnGroup, OnResponses, RolloutEngine, Sampling, Weights, check_prompts, ids_that_stop
from fipo.rollout.served.dispatch import Dispatcher
from fipo.rollout.served.guard import TOKEN_VARIABLE
from fipo.rollout.served.replicas import Replicas
from fipo.rollout.served.weight_sync import WeightSync
from fipo.rollout.weights import expected_of

START_SECONDS = 900.0
"""How long the first weights wait for servers that are started together with the trainer."""


class ServedVllmEngine(RolloutEngine):
    """Servers started by `fipo.rollout.served.server`, apart from the trainer's devices.

    Each rank of the trainer sends its own prompts to all servers. A prompt whose request was lost is sent again; a
    server that is lost or serves stale weights gets no more, until the next `load_weights` finds it well.

    Args:
        servers: their addresses, `http://host:port`.
        model: the model that they were started with.
        eos_token_id: the token, or tokens, that end a response.
        context: tokens of prompt and response at most, as the servers were started with.
        dtype: in which weights are sent.
        transfer: `nccl`, or `gloo` where there are no GPUs.
        address: where the servers reach rank 0 of the trainer.
        rank: of this process.
        timeout_seconds: for one version of the weights, and in which a server that has prompts must make progress.
        prompts_in_flight: prompts that one rank has at one server at once.
        continues: weights may be loaded while responses are sampled, which go on with the new ones: servers forget the
            keys and values of the old weights, and say which version has sampled which token.

    Raises:
        ConfigError: FIPO_ROLLOUT_TOKEN is not set.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        model: str,
        eos_token_id: int | Collection[int],
        context: int,
        dtype: torch.dtype,
        transfer: str = "nccl",
        address: str = "127.0.0.1",
        rank: int = 0,
        timeout_seconds: float = 1800.0,
        prompts_in_flight: int = 64,
        continues: bool = False,
    ) -> None:
        token = os.environ.get(TOKEN_VARIABLE)
        if not token:
            raise ConfigError(
                f"{TOKEN_VARIABLE}: must hold the secret that trainer and rollout servers share; it is empty"
            )
        self._replicas = replicas = Replicas(servers, token, timeout_seconds)
        self._context, self._rank, self._started = context, rank, False
        self.stop_ids, self.continues = ids_that_stop(eos_token_id), continues
        self._dispatcher = Dispatcher(
            replicas,
            stop_ids=sorted(self.stop_ids),
            context=context,
            prompts_in_flight=prompts_in_flight,
        )
        self._sync = WeightSync(
            replicas,
            expected=expected_of(model),
            dtype=dtype,
            transfer=transfer,
            address=address,
            rank=rank,
            timeout_seconds=timeout_seconds,
            continues=continues,
        )
        self._version: int | None = None

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> list[RolloutGroup]:
        """See `RolloutEngine.generate`."""
        if self._version is None:
            raise RolloutError("the rollout servers have no weights of this job yet: call load_weights before generate")
        check_prompts(prompts, self._context)
        return self._dispatcher.generate(prompts, sampling, self._version, progress, on_group)

    def load_weights(self, source: Weights, version: int) -> None:
        """Send the weights to every server that is well; all ranks together."""
        if not self.continues:
            self._version = None  # where responses go on, a round may begin meanwhile: servers let it wait
        self._dispatcher.newest = version
        if self.continues and dist.is_initialized():
            dist.barrier()  # responses to any rank may come back with the new version from now on
        if not self._started and self._rank == 0:
            self._replicas.wait_for_all(START_SECONDS)
        self._started = True
        self._sync.send(source, version)
        if dist.is_initialized():
            # No rank may ask before rank 0 has seen the new version everywhere.
            dist.barrier()
        self._dispatcher.forgive()
        self._version = version

    def close(self) -> None:
        """Leave the servers running; idempotent."""
        self._sync.close()
