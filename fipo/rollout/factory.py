"""The engine that the settings name."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.config import Config, Model
from fipo.environments.host import Host
from fipo.errors import ConfigError
from fipo.models import load_model, load_model_config, load_stops, positions_of
from fipo.models.precision import place
from fipo.models.stops import Stops
from fipo.rewards.sandbox.client import Limits
from fipo.rollout.engine import RolloutEngine
from fipo.rollout.installed import require_engine
from fipo.rollout.observations import Observations
from fipo.rollout.transformers import TransformersEngine
from fipo.rollout.turns import TurnsEngine

ALONE = 0.9
"""Share of a GPU's memory for vLLM where no trainer shares it: vLLM's own default."""
SERVERS_VARIABLE = "FIPO_ROLLOUT_SERVERS"
"""Environment variable with the servers' addresses, separated by commas: who starts trainer and servers sets it."""


def open_engine(
    config: Config,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: torch.dtype,
    device: torch.device,
    rank: int,
    trained: PreTrainedModel | None = None,
    alone: bool = False,
) -> RolloutEngine:
    """The engine `rollout.engine`, with turns where a source names an environment; it has no weights before its first
    `load_weights`.

    Args:
        config: all settings.
        folder: a saved model: its architecture counts.
        tokenizer: of that model.
        dtype: of the engine's weights.
        device: of this process.
        rank: of this process among the trainer's.
        trained: a whole model in training to sample from where it stands; None has the transformers engine take a copy.
        alone: no trainer shares the devices.

    Raises:
        ConfigError: the engine's package is not installed, or `served` lacks servers or their token.
    """
    stops = load_stops(Model(name_or_path=str(folder)), tokenizer)
    engine = _open(
        config, folder, tokenizer, stops, dtype=dtype, device=device, rank=rank, trained=trained, alone=alone
    )
    if not any(source.environment for source in config.data.sources.values()):
        return engine
    settings, programs = config.rollout, config.reward.sandbox
    return TurnsEngine(
        engine,
        Host(settings.environment_workers, Limits(programs.cpu_seconds, programs.memory_megabytes << 20)),
        Observations(tokenizer, stops, chat=config.data.chat, max_tokens=settings.max_observation_tokens),
        tokenizer,
        max_turns=settings.max_turns,
        context=context_of(config, folder),
    )


def _open(
    config: Config,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    stops: Stops,
    *,
    dtype: torch.dtype,
    device: torch.device,
    rank: int,
    trained: PreTrainedModel | None,
    alone: bool,
) -> RolloutEngine:
    settings = config.rollout
    if settings.engine == "transformers":
        return TransformersEngine(
            trained or place(load_model(Model(name_or_path=str(folder)), dtype=dtype), dtype, device),
            eos_token_id=stops.ids,
            pad_token_id=tokenizer.pad_token_id,
            max_batch_tokens=settings.max_batch_tokens,
            in_training=trained is not None,
        )
    require_engine(settings.engine)
    context = context_of(config, folder)
    if settings.engine == "vllm":
        from fipo.rollout.vllm import VllmEngine

        return VllmEngine(
            str(folder),
            eos_token_id=stops.ids,
            context=context,
            dtype=dtype_name(dtype),
            tensor_parallel=settings.tensor_parallel,
            gpu_memory_fraction=max(settings.gpu_memory_fraction, ALONE if alone else 0.0),
        )
    return _open_served(config, folder, stops, context, dtype, rank)


def _open_served(
    config: Config, folder: Path, stops: Stops, context: int, dtype: torch.dtype, rank: int
) -> RolloutEngine:
    from fipo.rollout.served.engine import ServedVllmEngine

    return ServedVllmEngine(
        _servers(config),
        model=str(folder),
        eos_token_id=stops.ids,
        context=context,
        dtype=dtype,
        transfer=transfer_backend(),
        address=os.environ.get("MASTER_ADDR", "127.0.0.1"),
        rank=rank,
        timeout_seconds=config.distributed.timeout_seconds,
        continues=config.rollout.max_staleness > 0,
    )


def context_of(config: Config, folder: Path) -> int:
    """Tokens of the longest prompt and response, or what the model takes, if that is less."""
    longest = config.data.max_prompt_tokens + config.rollout.max_response_tokens
    model = load_model_config(Model(name_or_path=str(folder)))
    return min(longest, positions_of(model))


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16`, `float32`: as vLLM's settings have it."""
    return str(dtype).removeprefix("torch.")


def transfer_backend() -> str:
    """How weights reach the servers: trainer and servers are the same kind of machine."""
    return "nccl" if torch.cuda.is_available() else "gloo"


def _servers(config: Config) -> list[str]:
    servers = [url for url in os.environ.get(SERVERS_VARIABLE, "").split(",") if url] or list(config.rollout.servers)
    if not servers:
        raise ConfigError(
            "rollout.servers: must name at least one server, http://host:port, with rollout.engine = served (or "
            f"{SERVERS_VARIABLE} in the environment); got none"
        )
    return servers
