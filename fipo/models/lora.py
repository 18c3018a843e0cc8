"""Low-rank adapters (LoRA, arXiv 2106.09685): peft makes the layers; here are their names, their sum, and their file.

An adapted layer computes W x + alpha / rank * B A x. W is frozen; A is random and B zero at first, so that training
begins at the model as it is. Elsewhere a model with an adapter is seen as the plain model that it is equal to:
parameters by their plain names, with the adapter added to the weight.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from fipo.config import Lora
from fipo.errors import ConfigError

_NAME = "default"
"""Of the adapter, in peft's names of parameters."""

Whole = Callable[..., AbstractContextManager[None]]
"""`TrainingEngine.whole`: inside, the parameters that it is given are whole on every rank."""

SHOWN = 0.02
"""Size of the adapter beside the weight while `shown` makes it visible."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is added to one weight."""

    a: nn.Parameter
    """[rank, in]."""
    b: nn.Parameter
    """[out, rank]."""
    scale: float
    """alpha / rank."""

    def added_to(self, weight: Tensor) -> Tensor:
        """weight + scale * B A, summed in float32 and rounded once, in the weight's dtype."""
        total = torch.addmm(weight.detach().float(), self.b.detach().float(), self.a.detach().float(), alpha=self.scale)
        return total.to(weight.dtype)


def adaptable(model: PreTrainedModel, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The linear layers that `model.lora.targets` names, by their full names; without targets all but the head.

    Raises:
        ConfigError: a target names no linear layer below the head.
    """
    head = model.get_output_embeddings()
    found = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head}
    known = {name.rpartition(".")[2] for name in found}
    if missing := [target for target in targets if target not in known]:
        raise ConfigError(
            f"model.lora.targets: must name linear layers of {model.config.model_type} below its head "
            f"({', '.join(sorted(known))}); got {', '.join(missing)}"
        )
    return {name: one for name, one in found.items() if not targets or name.rpartition(".")[2] in targets}


def add_adapter(model: PreTrainedModel, settings: Lora, *, seed: int) -> None:
    """Give the model a new adapter, in place; afterwards only that is trained. The same `seed` gives the same adapter.

    Raises:
        ConfigError: a target names no linear layer.
    """
    from peft import inject_adapter_in_model

    names = [name.rpartition(".")[2] for name in adaptable(model, settings.targets)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(_peft_config(settings, names), model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for adapter in _adapters(model).values():
        adapter.a.requires_grad_(True)
        adapter.b.requires_grad_(True)


def plain_parameters(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter, Adapter | None]]:
    """Parameters as the model has them without an adapter, by name and in order, and what is added to each."""
    adapters = _adapters(model)
    own = {id(part) for adapter in adapters.values() for part in (adapter.a, adapter.b)}
    for name, parameter in model.named_parameters():
        if id(parameter) not in own:
            yield name.replace(".base_layer.", "."), parameter, adapters.get(id(parameter))


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether the model is trained by an adapter."""
    return bool(_adapters(model))


def merged_error(model: PreTrainedModel, whole: Whole) -> float:
    """How far peft's forward of a layer is from the merged weight's, over the size of the layer's output; the largest.

    Args:
        model: any; 0 without an adapter.
        whole: gathers parameters.
    """
    errors = [0.0]
    for layer in _layers(model):
        base, adapter = layer.get_base_layer(), _adapter_of(layer)
        with whole(*layer.parameters()), torch.no_grad():
            probe = torch.linspace(-1.0, 1.0, base.in_features, device=base.weight.device, dtype=base.weight.dtype)
            probe = torch.stack([probe.sin(), (probe * 7).cos(), probe.flip(0) * 0.5])
            merged = nn.functional.linear(probe, adapter.added_to(base.weight), base.bias)
            errors.append(float((layer(probe) - merged).float().norm() / merged.float().norm()))
    return max(errors)


@contextmanager
def shown(model: PreTrainedModel, whole: Whole) -> Iterator[None]:
    """Inside, the adapter has an effect like a trained one's: a new one is zero, and would hide any fault in its path.

    Args:
        model: any; nothing happens without an adapter.
        whole: gathers parameters, and with `modified=True` writes them back.
    """
    before: list[tuple[nn.Parameter, Tensor]] = []
    generator = torch.Generator().manual_seed(0)
    for layer in _layers(model):
        weight, adapter = layer.get_base_layer().weight, _adapter_of(layer)
        with whole(weight, adapter.a), whole(adapter.b, modified=True):
            before.append((adapter.b, adapter.b.detach().clone()))
            noise = torch.randn(adapter.b.shape, generator=generator).to(weight.device)
            size = adapter.scale * (noise @ adapter.a.detach().float()).norm() / weight.detach().float().norm()
            adapter.b.data.copy_(noise * (SHOWN / size))
    try:
        yield
    finally:
        for parameter, values in before:
            with whole(parameter, modified=True):
                parameter.data.copy_(values)


def save_adapter(tensors: dict[str, Tensor], settings: Lora, base: str, folder: Path) -> None:
    """Write a folder in peft's format.

    Args:
        tensors: the trained parameters, by the names of the model in training.
        settings: those of the adapter.
        base: what it belongs to: a model of the hub, or the address of the warmed-up one.
        folder: is made.
    """
    names = [name.partition(".lora_")[0].rpartition(".")[2] for name in tensors]
    config = _peft_config(settings, names).to_dict() | {"base_model_name_or_path": base, "inference_mode": True}
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    saved = {f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": one.contiguous() for name, one in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(saved, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _peft_config(settings: Lora, names: list[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=int(settings.alpha) if settings.alpha.is_integer() else settings.alpha,  # type: ignore[arg-type]
        target_modules=sorted(set(names)),
        task_type="CAUSAL_LM",
    )


def _layers(model: PreTrainedModel) -> list[Any]:
    """peft's layers; none, and peft is not imported, without an adapter."""
    return [module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]


def _adapter_of(layer: Any) -> Adapter:
    return Adapter(layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight, float(layer.scaling[_NAME]))


def _adapters(model: PreTrainedModel) -> dict[int, Adapter]:
    """By the id of the weight that each is added to."""
    return {id(layer.get_base_layer().weight): _adapter_of(layer) for layer in _layers(model)}
