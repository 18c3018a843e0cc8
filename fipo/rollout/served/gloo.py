"""vLLM's weight transfer over gloo, for machines without NCCL: the same protocol, another wire.

Importing this module registers the backend `gloo`; a server imports it with its worker extension (see `server`).
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributed import BroadcastOptions
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer.base import ParamMeta, VLLMWeightSyncClient, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo, worker_init_payload
from vllm.distributed.weight_transfer.nccl_engine import (
    NCCLTrainerInitInfo,
    NCCLTrainerWeightTransferEngine,
    NCCLWeightTransferEngine,
    NCCLWeightTransferUpdateInfo,
)

from fipo.rollout.vllm import renew_tied_head

TIMEOUT = timedelta(minutes=5)
"""For the group to form and for one tensor to arrive."""


class GlooWorker:
    """Worker extension without methods: naming it makes vLLM's workers import this module."""


class GlooGroup:
    """The trainer (rank 0) and all inference workers."""

    def __init__(self, address: str, port: int, rank: int, world_size: int) -> None:
        # Under torchrun, torch would look for the meeting point at torchrun's own address.
        listening = socket.create_server(("", port)) if rank == 0 else None
        self._group = stateless_init_torch_distributed_process_group(
            address, port, rank, world_size, "gloo", listen_socket=listening, timeout=TIMEOUT
        )

    def broadcast(self, tensor: Tensor) -> None:
        """Send from the trainer; fill on the workers."""
        options = BroadcastOptions()
        options.rootRank = 0
        options.timeout = TIMEOUT
        self._group.broadcast([tensor], options).wait()

    def destroy(self) -> None:
        """Leave the group; its own `shutdown` can wait for a trainer that is gone."""
        del self._group


class GlooWeightTransferEngine(NCCLWeightTransferEngine):
    """The worker's side."""

    def init_transfer_engine(self, init_info: NCCLWeightTransferInitInfo) -> None:
        """Join the group; data-parallel and tensor-parallel workers have ranks of their own."""
        parallel = self.parallel_config
        rank = init_info.rank_offset + parallel.data_parallel_index * parallel.world_size + parallel.rank
        self.model_update_group = GlooGroup(init_info.master_address, init_info.master_port, rank, init_info.world_size)

    def receive_weights(self, update_info: NCCLWeightTransferUpdateInfo) -> None:
        """Receive and load one parameter after the other."""
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes):
            weight = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            self.model_update_group.broadcast(weight)
            self.model.load_weights([(name, weight)])

    def finish_weight_update(self) -> None:
        """Bring what was loaded into the kernels' layout."""
        super().finish_weight_update()
        renew_tied_head(self.model)


@dataclass
class GlooTrainerInitInfo(NCCLTrainerInitInfo):
    """The trainer's side of the rendezvous."""

    backend: ClassVar[str] = "gloo"


class GlooTrainerWeightTransferEngine(NCCLTrainerWeightTransferEngine):
    """The trainer's side."""

    init_info_cls = GlooTrainerInitInfo

    @classmethod
    def trainer_init(
        cls, init_info: GlooTrainerInitInfo, *, client: VLLMWeightSyncClient, source: WeightSource | None = None
    ) -> Self:
        """Form the group; the workers join it inside their request, so both go at once."""
        engine = cls(client=client, source=source, is_sender=init_info.is_sender)
        if not engine.is_sender:
            return engine
        address, port, world_size = init_info.master_address, init_info.master_port, init_info.world_size
        payload = worker_init_payload(
            NCCLWeightTransferInitInfo(master_address=address, master_port=port, rank_offset=1, world_size=world_size)
        )
        with ThreadPoolExecutor(1) as threads:
            joined = threads.submit(client.init_weight_transfer_engine, payload)
            engine.model_update_group = GlooGroup(address, port, 0, world_size)
            joined.result()
        return engine

    def _broadcast(self, source: WeightSource, meta: list[ParamMeta]) -> None:
        for _, tensor in self._checked_iter(source, meta):
            if self.is_sender:
                self.model_update_group.broadcast(tensor.contiguous())


WeightTransferEngineFactory.register_engine("gloo", GlooWeightTransferEngine)
WeightTransferTrainerFactory.register_engine("gloo", GlooTrainerWeightTransferEngine)
