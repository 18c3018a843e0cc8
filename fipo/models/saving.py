"""A trained model written as a folder that everything loads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from fipo.models.stops import ids_of, stops_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    state_dict: dict[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that `from_pretrained` loads; `state_dict` replaces the model's own (gathered under ZeRO-3).

    Its parameters are rounded to `dtype`, if that is given; buffers stay. Its generation configuration names every
    token that ends a response, for engines that obey nothing else.
    """
    if dtype and dtype is not model.dtype:
        state_dict = _rounded(model, state_dict or model.state_dict(), dtype)
    if (generation := model.generation_config) is not None:
        stops = stops_of(tokenizer, model.config, generation)
        if {*stops.ids} != {*ids_of(generation.eos_token_id)}:
            generation.eos_token_id = list(stops.ids)
    model.save_pretrained(directory, state_dict=state_dict, safe_serialization=True)
    if dtype and dtype is not model.dtype:  # the configuration was written with that of the model in memory
        config = copy.deepcopy(model.config)
        config.dtype = dtype
        config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _rounded(
    model: PreTrainedModel, state_dict: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The same with its parameters in `dtype`; tied ones, of one memory, stay tied, or they would be saved twice."""
    names = {name.replace(".base_layer.", ".") for name, _ in model.named_parameters(remove_duplicate=False)}
    made: dict[int, torch.Tensor] = {}
    result = {}
    for name, tensor in state_dict.items():
        if name in names:
            tensor = made.setdefault(tensor.data_ptr(), tensor.to(dtype))
        result[name] = tensor
    return result
