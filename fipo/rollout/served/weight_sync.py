"""Weights from the trainer's ranks to all rollout servers, by vLLM's native transfer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fipo.errors import RolloutError
from fipo.rollout.engine import Weights
from fipo.rollout.served.replicas import Replicas
from fipo.rollout.weights import Expected, checked

if TYPE_CHECKING:
    from vllm.distributed.weight_transfer.base import ParamMeta

INCOMPLETE = "incomplete"
"""The servers' weight version after a transfer that went wrong."""


class WeightSync:
    """Sends each version of the weights to every live server in one broadcast.

    All ranks of the trainer make one and call `send` together: gathering partitioned weights (ZeRO-3) is collective.
    Rank 0 speaks to the servers. The group is formed again whenever a server was lost, came back or was restarted.

    Args:
        replicas: the servers.
        expected: the parameters that they hold.
        dtype: in which they are sent.
        transfer: `nccl`, or `gloo` where there are no GPUs.
        address: where the servers reach rank 0.
        rank: of this process.
        timeout_seconds: for one version to arrive everywhere.
    """

    def __init__(
        self,
        replicas: Replicas,
        *,
        expected: Expected,
        dtype: torch.dtype,
        transfer: str,
        address: str,
        rank: int,
        timeout_seconds: float,
        continues: bool,
    ) -> None:
        self._replicas, self._transfer, self._address, self._rank = replicas, transfer, address, rank
        self._timeout_seconds = timeout_seconds
        # Else what is still under way is of a trainer that is gone.
        self._under_way = "keep" if continues else "abort"
        self._source = _Source(expected, dtype, torch.device("cuda" if transfer == "nccl" else "cpu"))
        self._client: _FanOut | None = None
        self._engine: Any = None

    def send(self, source: Weights, version: int) -> None:
        """Pause the live servers, replace their weights, forget what was cached with the old ones, resume.

        Raises:
            RolloutError: no server is left, one failed on the way, the time was over, or the weights do not fit.
        """
        self._source.offer(source, version)
        client = self._form_group() if self._rank == 0 else None
        if client:
            client.version = str(version)
            client.post(f"pause?mode={self._under_way}&clear_cache=true")
        elif self._engine is None:
            self._engine = self._trainer_engine(world_size=1)
        self._within_time(self._engine.send_weights, version)
        if client:
            client.post("resume")
            self._check_version(client.urls, INCOMPLETE if self._source.error else str(version))
        if self._source.error:
            raise self._source.error

    def close(self) -> None:
        """Leave the group."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None

    def _form_group(self) -> _FanOut:
        live, client = self._replicas.willing("GET", "health"), self._client
        if client and self._engine is not None and client.urls == live and self._has_version(live, client.version):
            return client
        self.close()
        live = self._replicas.willing("POST", "shutdown_weight_transfer_engine")
        if not live:
            raise RolloutError(f"rollout.servers: none of {', '.join(self._replicas.urls)} takes weights")
        sizes = [answer["world_size"] for answer in self._replicas.get(live, "get_world_size")]
        self._client = _FanOut(self._replicas, live, sizes, self._source)
        self._engine = self._trainer_engine(world_size=1 + sum(sizes))
        return self._client

    def _trainer_engine(self, world_size: int) -> Any:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        info_type: type[NCCLTrainerInitInfo] = NCCLTrainerInitInfo
        if self._transfer == "gloo":
            from fipo.rollout.served.gloo import GlooTrainerInitInfo

            info_type = GlooTrainerInitInfo
        info = info_type(self._address, _free_port(), world_size, rank=self._rank)
        return WeightTransferTrainerFactory.trainer_init(info, client=self._client, source=self._source)

    def _within_time(self, transfer: Any, version: int) -> None:
        """A broadcast to a server that died would wait for ever; the process ends with the error instead."""
        failure: list[BaseException] = []
        device = torch.cuda.current_device() if torch.cuda.is_available() else None

        def run() -> None:
            if device is not None:
                torch.cuda.set_device(device)
            try:
                transfer()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run, name="weight-sync", daemon=True)
        thread.start()
        thread.join(self._timeout_seconds)
        if thread.is_alive() or failure:
            self._engine = None
            why = failure[0] if failure else f"not done within {self._timeout_seconds:g} s"
            raise RolloutError(f"weights version {version}: the transfer to the rollout servers failed: {why}")

    def _check_version(self, urls: Sequence[str], label: str) -> None:
        if not self._has_version(urls, label):
            raise RolloutError(f"weights version {label}: a rollout server says that it has another")

    def _has_version(self, urls: Sequence[str], label: str) -> bool:
        return all(answer["weight_version"] == label for answer in self._replicas.get(urls, "weight_info"))


class _Source:
    """vLLM's `WeightSource` over weights that come once: what it declares is what it yields, whatever goes wrong.

    The servers wait for as many tensors as were declared; after an error they get zeros, and a version that says so.
    """

    def __init__(self, expected: Expected, dtype: torch.dtype, device: torch.device) -> None:
        self._expected, self._dtype, self._device = expected, dtype, device
        self.error: Exception | None = None

    def offer(self, source: Weights, version: int) -> None:
        """Take the weights that the next iteration yields."""
        self._weights = checked(source, self._expected, version)
        self._version, self.error = version, None

    def metadata(self) -> list[ParamMeta]:
        """Name, type and shape of all parameters, in order."""
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [ParamMeta(name, self._dtype, shape) for name, shape in self._expected.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, shape in self._expected.items():
            tensor = self._next(name)
            # A copy: what ZeRO-3 gathered is gone when the next is asked for, and vLLM may still hold this one.
            if tensor is None:
                yield name, torch.zeros(shape, dtype=self._dtype, device=self._device)
            else:
                yield name, tensor.to(self._device, self._dtype, copy=True)
        self._next("")

    def _next(self, expected: str) -> Tensor | None:
        """The next tensor; None after the last, and from an error on."""
        if self.error:
            return None
        try:
            name, tensor = next(self._weights, ("", None))
        except Exception as error:
            # Whatever it was: the servers wait for the rest, and would wait for ever.
            self.error = error
            return None
        if name == expected:
            return tensor
        self.error = RolloutError(
            f"weights version {self._version}: {name or 'nothing'} came where {expected or 'the end'} was due; "
            "the order must be that of the model's named_parameters()"
        )
        return None


class _FanOut:
    """vLLM's weight-sync client, for several servers at once.

    Args:
        replicas: how to reach them.
        urls: the live ones.
        world_sizes: inference processes of each; their ranks in the group follow each other.
        source: says whether the transfer is complete.
    """

    def __init__(self, replicas: Replicas, urls: list[str], world_sizes: list[int], source: _Source) -> None:
        self.urls, self.version = urls, ""
        self._replicas, self._world_sizes, self._source = replicas, world_sizes, source

    def post(self, path: str, body: dict[str, Any] | None = None) -> None:
        """The same to all."""
        self._replicas.post(dict.fromkeys(self.urls, body), path)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Have them join the group, each at its own ranks."""
        offsets = [init_info["rank_offset"] + sum(self._world_sizes[:index]) for index in range(len(self.urls))]
        bodies = {url: {"init_info": init_info | {"rank_offset": offset}} for url, offset in zip(self.urls, offsets)}
        self._replicas.post(bodies, "init_weight_transfer_engine")

    def shutdown_weight_transfer_engine(self) -> None:
        """Have them leave the group."""
        self.post("shutdown_weight_transfer_engine")

    def start_weight_update(self) -> None:
        """Prepare for new weights."""
        self.post("start_weight_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive them; answers when all have arrived."""
        self.post("update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Use them, under the version that later responses carry."""
        self.post("finish_weight_update", {"weight_version": INCOMPLETE if self._source.error else self.version})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
