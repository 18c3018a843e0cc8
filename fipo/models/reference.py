"""A model as it is: its files, the weights in them, and a folder that `from_pretrained` loads, of links to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.config import Model
from fipo.errors import ConfigError
from fipo.models.folder import INDEX, WHOLE
from fipo.models.loading import load_generation_config, load_model_config
from fipo.models.stops import ids_of, stops_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def link_model(model: Model, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write such a folder for a model of the hub or of a folder: no weight is read, cast or copied.

    Configuration, stop tokens and tokenizer are written as `save_model` writes them.

    Raises:
        ConfigError: it has no safetensors weights.
    """
    from transformers import GenerationConfig

    directory.mkdir(parents=True, exist_ok=True)
    for path in published_weights(model):
        link = directory / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path.resolve())
    config = load_model_config(model)
    if model.max_position_embeddings:
        config.get_text_config().max_position_embeddings = model.max_position_embeddings
    config.save_pretrained(directory)
    generation = load_generation_config(model) or GenerationConfig.from_model_config(config)
    stops = stops_of(tokenizer, config, generation)
    if {*stops.ids} != {*ids_of(generation.eos_token_id)}:
        generation.eos_token_id = list(stops.ids)
    generation.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def published_weights(model: Model) -> list[Path]:
    """The safetensors files of the model, here or in the hub's cache, and their index if there are several.

    Raises:
        ConfigError: there are none.
    """
    whole = _file(model, WHOLE)
    if whole:
        return [whole]
    index = _file(model, INDEX)
    if not index:
        raise ConfigError(f"model.name_or_path: {model.name_or_path!r} must have {WHOLE}, or {INDEX} and its files")
    names = sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    found = {name: _file(model, name) for name in names}
    if missing := [name for name, path in found.items() if not path]:
        raise ConfigError(f"model.name_or_path: {model.name_or_path!r} lacks {', '.join(missing)} of its {INDEX}")
    return [index, *(path for path in found.values() if path)]


def weights_of(model: Model) -> Iterator[tuple[str, Tensor]]:
    """The weights in those files, one after the other, by the names that they have there.

    Raises:
        ConfigError: there are no files.
    """
    from safetensors import safe_open

    for path in published_weights(model):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    yield name, file.get_tensor(name)


def _file(model: Model, name: str) -> Path | None:
    from transformers.utils.hub import cached_file

    missing: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
    path = cached_file(str(model.name_or_path), name, revision=model.revision or None, **missing)
    return Path(path) if path else None
