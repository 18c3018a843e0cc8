"""Accelerators and assumptions: what the plan takes for given, each of it replaceable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

from fipo.errors import ConfigError

KINDS = ("laptop", "one-gpu", "node")
"""Of machines that `fipo init` writes for, the smallest first: cores, one GPU, all the GPUs of one."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator. Peaks from NVIDIA's data sheets; price and network as a large cloud has them, to be replaced."""

    memory_gib: float
    """As the driver reports it."""
    peak_flops: float
    """Operations per second of dense bf16 matrix products."""
    memory_bandwidth: float
    """Bytes per second."""
    link_bandwidth: float
    """Bytes per second to the other GPUs of the node, each way."""
    network_bandwidth: float
    """Bytes per second to other nodes, each way: this GPU's share of the node's adapters."""
    price_per_hour: float
    """US dollars."""


GPUS = {
    "a100": Gpu(79.0, 312e12, 2.04e12, 300e9, 25e9, 1.8),
    "h100": Gpu(79.0, 989e12, 3.35e12, 450e9, 50e9, 2.8),
    "h200": Gpu(139.0, 989e12, 4.8e12, 450e9, 50e9, 3.5),
    "b200": Gpu(178.0, 2250e12, 8.0e12, 900e9, 50e9, 5.5),
    "l4": Gpu(22.5, 121e12, 0.3e12, 32e9, 6.25e9, 0.8),
    "l40s": Gpu(44.0, 362e12, 0.864e12, 32e9, 12.5e9, 1.1),
}
"""SXM versions, 80 GB of the A100 and H100; the L4 and L40S on PCIe 4."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no data sheet says."""

    mfu: float = 0.4
    """Share of `peak_flops` that passes over packed tokens reach."""
    decode_efficiency: float = 0.6
    """Share of `memory_bandwidth` that decoding reaches."""
    network_efficiency: float = 0.7
    """Share of the bandwidths that collectives reach; nothing of them is hidden behind computation."""
    host_bandwidth: float = 25e9
    """Bytes per second of the host's memory, a rank's share of it, for an offloaded optimizer."""
    reserve_gib: float = 4.0
    """Memory of a GPU that no tensor gets: CUDA context, NCCL's buffers, fragmentation."""
    prompt_tokens: float = 256.0
    """Mean length of a prompt, template included."""
    response_fraction: float = 0.5
    """Mean length of a response over `rollout.max_response_tokens`."""
    response_sigma: float = 0.7
    """Spread of a response's length, of its logarithm: for what ranks wait for the slowest."""
    signal_fraction: float = 0.5
    """Share of the prompts drawn that have a learning signal, with `train.dynamic_sampling`."""


def assume(gpu: Gpu, settings: Iterable[str], assumptions: Assumptions = Assumptions()) -> tuple[Gpu, Assumptions]:
    """`gpu` and `assumptions` with `name=value` replacements of the fields of either.

    Raises:
        ConfigError: a name is unknown or a value is no positive number.
    """
    for setting in settings:
        name, _, text = setting.partition("=")
        known = [field.name for kind in (Gpu, Assumptions) for field in fields(kind)]
        if name not in known:
            raise ConfigError(f"--assume {setting!r}: expected name=value with a name of {', '.join(known)}")
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise ConfigError(f"--assume {name}: must be a positive number; got {text!r}")
        if name in asdict(gpu):
            gpu = replace(gpu, **{name: value})
        else:
            assumptions = replace(assumptions, **{name: value})
    return gpu, assumptions
