"""Weights on their way into an engine: nothing missing, nothing unknown, nothing of another shape."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from fipo.config import Model
from fipo.errors import RolloutError
from fipo.models import load_model_config
from fipo.rollout.engine import Weights

Expected = Mapping[str, tuple[int, ...]]
"""Shapes by name."""


def shapes_of(module: nn.Module) -> Expected:
    """What `module` expects; tied parameters once."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def expected_of(model: str) -> Expected:
    """What the model at `model` (a name of the hub or a folder) expects, from its configuration alone."""
    config = load_model_config(Model(name_or_path=model))
    with torch.device("meta"):
        return shapes_of(AutoModelForCausalLM.from_config(config, trust_remote_code=False))


def stored_weights(folder: Path) -> Weights:
    """The weights of a saved model, read one after the other, in the order of its `named_parameters()`."""
    expected, index = expected_of(str(folder)), folder / "model.safetensors.index.json"
    if index.exists():
        file_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    else:
        file_of = dict.fromkeys(expected, "model.safetensors")
    for name in expected:
        with safe_open(folder / file_of[name], "pt") as file:
            yield name, file.get_tensor(name)


def checked(source: Weights, expected: Expected, version: int) -> Iterator[tuple[str, Tensor]]:
    """The same weights, one after the other; when it ends well, all that is expected came.

    Raises:
        RolloutError: a parameter is unknown, has another shape, or did not come; the engine is then between two
            versions and must not generate until whole weights were loaded.
    """
    missing = set(expected)
    for name, tensor in source:
        if name not in expected:
            raise RolloutError(f"weights version {version}: the engine's model has no parameter {name}")
        if tuple(tensor.shape) != expected[name]:
            raise RolloutError(
                f"weights version {version}: {name} must have shape {expected[name]}; got {tuple(tensor.shape)}"
            )
        missing.discard(name)
        yield name, tensor
    if missing:
        raise RolloutError(f"weights version {version}: {len(missing)} parameter(s) missing, such as {min(missing)}")
