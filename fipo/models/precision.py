"""Where a model stands and in which precision, and what of a training a narrower one keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def place(model: PreTrainedModel, dtype: torch.dtype, device: torch.device | None = None) -> PreTrainedModel:
    """Move the model and cast its parameters, in place; buffers keep the precision that they were made in.

    `model.to(dtype)` would round the frequencies of rotary embeddings, whose angles are they times the position: in
    bfloat16 the angle of a frequency of 0.866 is wrong by a radian from position 850 on. transformers and vLLM
    keep them in float32, whatever the model's precision.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device=device, dtype=dtype)
    if device is not None:
        model.to(device)  # type: ignore[arg-type]  # as transformers wraps it, `self` is taken for an argument
    return model


def kept_share(trained: Mapping[str, Tensor], start: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> float | None:
    """How much of what training has changed is still there in `dtype`: 1 is all, 0 the model before it.

    Rounding is to the nearest: a change of less than half a step of `dtype` is undone, however many weights have one.
    What rounding adds counts against the share as what it takes away: 1 - ||rounded - trained|| / ||trained - before||
    over all weights, and 0 where the rounding is larger than the change.

    Args:
        trained: weights by name.
        start: those before training, one after the other; names that `trained` has not are passed over.

    Returns:
        None where nothing was compared, nothing has changed, or a weight is beyond what `dtype` can hold.
    """
    lost, whole = 0.0, 0.0
    for name, before in start:
        if (after := trained.get(name)) is not None and after.shape == before.shape:
            now = after.detach().cpu().float()
            lost += float((now.to(dtype).float() - now).square().sum())
            whole += float((now - before.float()).square().sum())
    return max(0.0, 1.0 - math.sqrt(lost / whole)) if whole and math.isfinite(lost) else None


def rotary_error(model: PreTrainedModel, position: int) -> float:
    """Radians by which the angles of rotary embeddings are wrong at `position`, at most, for what the config says."""
    errors = [0.0]
    for module in model.modules():
        made = _frequencies(module)
        if made and hasattr(module, "config"):
            meant = _frequencies(type(module)(module.config))
            errors += [float((made[name].double().cpu() - meant[name].double()).abs().max()) for name in made]
    return max(errors) * position


def rotary_frequencies(model: PreTrainedModel) -> list[Tensor]:
    """Those of all rotary embeddings, as the last pass left them: some kinds (longrope, dynamic) change them with the
    length of what they are given."""
    return [one.double().cpu() for module in model.modules() for one in _frequencies(module).values()]


def _frequencies(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers(recurse=False) if name.endswith("inv_freq")}
