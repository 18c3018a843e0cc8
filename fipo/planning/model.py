"""The sizes of a model that memory and time follow from, read from its configuration; no weights are needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fipo.config import Model
from fipo.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder."""

    parameters: int
    layers: int
    hidden_size: int
    intermediate_size: int
    query_size: int
    """Query heads x head size."""
    key_value_size: int
    """Key/value heads x head size."""
    vocabulary: int
    context: int
    """Longest sequence."""
    tied: bool
    """The input embeddings are the LM head."""
    query_key_norm: bool
    """Queries and keys are normalised (Qwen3)."""
    adapter_parameters: int = 0
    """Of `model.lora`; they are trained in place of the others."""
    adapter_channels: int = 0
    """Rank x adapted layers."""

    @property
    def trained_parameters(self) -> int:
        """Those with a gradient and an optimizer's state."""
        return self.adapter_parameters or self.parameters

    @property
    def matrix_parameters(self) -> int:
        """Weights that each token is multiplied with: all but input embeddings that are only looked up."""
        return self.parameters - (0 if self.tied else self.vocabulary * self.hidden_size)

    @property
    def head_parameters(self) -> int:
        """Weights of the LM head."""
        return self.vocabulary * self.hidden_size


def shape_of(model: Model, config_file: Path | None = None) -> ModelShape:
    """Sizes of `model`, or of the model that `config_file` (a `config.json` in the hub's format) describes.

    Raises:
        ConfigError: there is no configuration, or it is not that of a dense decoder.
    """
    from transformers import AutoModelForCausalLM

    from fipo.models import load_model_config
    from fipo.models.lora import adaptable

    if config_file:
        config = _read(config_file)
    else:
        try:
            config = load_model_config(model)
        except ConfigError as error:
            raise ConfigError(f"{error}\n--model-config FILE takes the model's config.json instead") from error
    if getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None):
        raise ConfigError(f"model {config.model_type}: a plan needs a dense decoder; this is a mixture of experts")
    import torch

    try:
        with torch.device("meta"):
            meta = AutoModelForCausalLM.from_config(config)
        parameters = dict(meta.named_parameters())
        adapted = adaptable(meta, model.lora.targets).values() if model.lora else []
        rank = model.lora.rank if model.lora else 0
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return ModelShape(
            parameters=sum(parameter.numel() for parameter in parameters.values()),
            layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            query_size=config.num_attention_heads * head_size,
            key_value_size=config.num_key_value_heads * head_size,
            vocabulary=config.vocab_size,
            context=model.max_position_embeddings or config.max_position_embeddings,
            tied=config.tie_word_embeddings,
            query_key_norm=any("q_norm" in name for name in parameters),
            adapter_parameters=sum(rank * (one.in_features + one.out_features) for one in adapted),
            adapter_channels=rank * len(adapted),
        )
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"model {config.model_type}: a plan needs a dense decoder such as Qwen2: {error}") from error


def _read(path: Path) -> Any:
    from transformers import AutoConfig

    if path.exists() and not path.is_file():  # a pipe keeps a reader waiting until somebody writes
        raise ConfigError(f"--model-config {path}: expected a file; this is a folder, pipe or device")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"--model-config {path}: expected a model's config.json, with model_type: {type(error).__name__} {error}"
        ) from error
