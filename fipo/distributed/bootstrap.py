"""Process group, device, threads, seeds and stop requests of one worker, under torchrun or alone."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from fipo.config import Distributed
from fipo.distributed.random_state import seed_everything
from fipo.errors import StopRequested

_PR_SET_PDEATHSIG = 1
_STOP_KEY = "fipo/stop"
WAIT_SECONDS = 5.0
"""Of one question to the store, which a thread that shares stop requests asks too."""


@dataclass
class World:
    """The ranks of one job, seen from one of them."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    group: dist.ProcessGroup | None = None
    """Whose collectives these are; None is the default group."""
    _stop: bool = field(default=False, init=False)
    _interruptible: bool = field(default=False, init=False)
    _queues: int = field(default=0, init=False)

    @property
    def is_main(self) -> bool:
        """Whether this rank logs and publishes."""
        return self.rank == 0

    def sum(self, values: Any) -> torch.Tensor:
        """Element-wise sum over all ranks, float64, on the CPU."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: Any) -> torch.Tensor:
        """Element-wise maximum over all ranks, float64, on the CPU."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def gather(self, item: Any) -> list[Any]:
        """`item` of every rank, in rank order, on every rank."""
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item, group=self.group)
        return items

    def gather_to_main(self, item: Any) -> list[Any]:
        """`item` of every rank, in rank order, on rank 0; nothing on the others."""
        items: list[Any] = [None] * self.size if self.is_main else []
        dist.gather_object(item, items or None, group=self.group, group_dst=0)
        return items

    def exchange(self, items: Sequence[Any]) -> list[Any]:
        """What every rank has for this one, in rank order; `items[r]` is for rank r."""
        parts = [pickle.dumps(item) for item in items]
        sizes = torch.tensor([len(part) for part in parts], device=self.device)
        coming = torch.empty_like(sizes)
        dist.all_to_all_single(coming, sizes, group=self.group)
        sent = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8).to(self.device)
        got = torch.empty(int(coming.sum()), dtype=torch.uint8, device=self.device)
        dist.all_to_all_single(got, sent, coming.tolist(), sizes.tolist(), group=self.group)
        return [pickle.loads(part.numpy().tobytes()) for part in got.cpu().split(coming.tolist())]

    def broadcast(self, tensor: torch.Tensor, source: int) -> torch.Tensor:
        """`source`'s tensor on every rank, on its device; the others give one of the same shape and type."""
        tensor = tensor.to(self.device)
        dist.broadcast(tensor, source, group=self.group)
        return tensor

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier(self.group, device_ids=[self.local_rank] if self.device.type == "cuda" else None)

    def meet(self) -> None:
        """Wait for all ranks, however long: for those that fetch or publish, which takes what it takes.

        A collective fails after `distributed.timeout_seconds`. Here a rank that dies is torchrun's to notice.
        """
        arrive = self.queue()
        store, met = distributed_c10d._get_default_store(), f"fipo/met/{self._queues}"
        if arrive() == self.size - 1:
            store.set(met, "1")
        while True:
            with suppress(dist.DistStoreError):  # not yet; others may ask the store in between
                store.wait([met], timedelta(seconds=WAIT_SECONDS))
                break
        self.barrier()  # or the store may be gone before the last has seen it

    def queue(self) -> Callable[[], int]:
        """A counter that all ranks share: each call of it, by whichever rank, gives the next number, from 0.

        All ranks must ask for it alike.
        """
        self._queues += 1
        group = self.group or distributed_c10d._get_default_group()
        key = f"fipo/queue/{group.group_name}/{self._queues}"
        store = distributed_c10d._get_default_store()
        return lambda: int(store.add(key, 1)) - 1

    def aside(self, timeout_seconds: float) -> World:
        """The same ranks for a second thread, whose collectives must not mix with those of the first; collective."""
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
        return World(self.rank, self.size, self.local_rank, torch.device("cpu"), group)

    @property
    def stopping(self) -> bool:
        """Whether this rank was asked to stop."""
        return self._stop

    def stop_requested(self) -> bool:
        """Whether any rank was asked to stop; the same answer on every rank."""
        return bool(self.max([float(self._stop)])[0])

    def request_stop(self) -> None:
        """Ask for a stop at the next step.

        Raises:
            StopRequested: within `interruptible`.
        """
        self._stop = True
        if self._interruptible:
            self._interruptible = False
            raise StopRequested

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block, without collectives, that a stop request to any rank ends at once by `StopRequested`."""
        self._interruptible = True
        try:
            if self._stop:
                raise StopRequested
            yield
        finally:
            self._interruptible = False

    def wait_or_stop(self, wait: Callable[[], object]) -> None:
        """Call `wait`, which may not use this world's collectives; collective at its end.

        Raises:
            StopRequested: on every rank, when any was asked to stop; `wait` has ended then, or is given up.
        """
        with suppress(StopRequested), self.interruptible():
            wait()
        if self.stop_requested():
            raise StopRequested

    def _reduce(self, values: Any, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        tensor = torch.as_tensor(values, dtype=torch.float64).to(self.device)
        dist.all_reduce(tensor, op=operation, group=self.group)
        return tensor.cpu()


@contextmanager
def join_world(settings: Distributed, *, seed: int) -> Iterator[World]:
    """Join the process group of torchrun's environment (a group of one without it), and leave it at the end.

    SIGTERM and SIGINT no longer end the process: they make `World.stop_requested` true, and end what is
    `World.interruptible` on every rank, also where only one machine is told to stop.
    """
    die_with_parent()
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    local_rank, on_gpu = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:  # else torch has read it: whoever set it decides
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    timeout = timedelta(seconds=settings.timeout_seconds)
    _set_default_timeout(timeout)
    deepspeed = import_deepspeed()
    deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", timeout=timeout, verbose=False)
    world = World(dist.get_rank(), dist.get_world_size(), local_rank, device)
    seed_everything(seed, world.rank)
    previous = {number: signal.signal(number, _stopper(world)) for number in (signal.SIGTERM, signal.SIGINT)}
    left = threading.Event()
    if world.size > 1:
        threading.Thread(target=_share_stop, args=(world, left), name="stop-request", daemon=True).start()
    try:
        yield world
    finally:
        left.set()
        for number, handler in previous.items():
            signal.signal(number, handler)
        dist.destroy_process_group()


def die_with_parent() -> None:
    """Have Linux kill this process when torchrun dies, even by kill -9; an orphan would train on beside the next."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank is gone or silent."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def import_deepspeed() -> Any:
    """DeepSpeed, told which accelerator there is and not to compile kernels that we do not use."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DS_LOG_LEVEL", "warning")
    # DeepSpeed calls collectives by names that torch renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    import deepspeed

    # Else `deepspeed.initialize` compiles it on a CPU, which takes minutes.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _set_default_timeout(timeout: timedelta) -> None:
    """For every group that anyone makes: DeepSpeed and vLLM make theirs without one, and a frozen rank hangs them."""
    distributed_c10d.default_pg_timeout = distributed_c10d.default_pg_nccl_timeout = timeout


def _share_stop(world: World, left: threading.Event) -> None:
    """Tell the other ranks of a stop request, and pass theirs on as a signal, within a second."""
    store = distributed_c10d._get_default_store()
    with suppress(RuntimeError):  # the store's host is gone: the next collective says so
        while not left.wait(1.0):
            if world._stop:
                store.set(_STOP_KEY, "1")
                return
            if store.check([_STOP_KEY]):
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _stopper(world: World) -> Any:
    def handle(number: int, frame: FrameType | None) -> None:
        world.request_stop()

    return handle
