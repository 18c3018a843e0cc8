"""Mixtures of experts: which experts tokens go to, how evenly, and the loss that keeps it even.

For routers that choose the largest of their logits (Qwen MoE, Mixtral, Granite, OLMoE, gpt-oss); others are trained as
they are, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of each layer that has some."""

    count: int
    per_token: int
    balance_weight: float
    """`router_aux_loss_coef`, where the configuration asks for that loss (`output_router_logits`); else 0."""

    def chosen(self, router_logits: Sequence[Tensor]) -> Tensor:
        """[layers, tokens, per_token] indices in ascending order, from each layer's [tokens, count]."""
        return torch.stack([logits.topk(self.per_token, dim=-1).indices.sort(-1).values for logits in router_logits])

    def load(self, router_logits: Sequence[Tensor]) -> Tensor:
        """[layers, experts that the router knows]: tokens that each got."""
        chosen = self.chosen([logits.detach() for logits in router_logits]).flatten(1)
        width = router_logits[0].shape[-1]  # some have experts that do nothing, beyond the count
        return torch.stack([layer.bincount(minlength=width) for layer in chosen]).double()

    def balance(self, router_logits: Sequence[Tensor]) -> Tensor:
        """The load-balancing loss of the Switch Transformer (arXiv 2101.03961, Eq. 4), over all layers as one:

            count * sum over experts of (share of tokens that go there * mean probability of going there)

        It is per_token where all experts get as many tokens, and more the less even they are.
        """
        logits = torch.cat(list(router_logits))
        share = (self.load(router_logits).sum(0) / len(logits)).float()
        return self.count * (share * logits.float().softmax(-1).mean(0)).sum()


def experts_of(model: PreTrainedModel) -> Experts | None:
    """None for a dense model, whatever numbers its configuration has, and for routers that choose in another way."""
    config = model.config.get_text_config()
    count = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    per_token = getattr(config, "num_experts_per_tok", None)
    if not (count and per_token and _routers(model)):
        return None
    asked = getattr(config, "output_router_logits", False)
    return Experts(count, per_token, float(getattr(config, "router_aux_loss_coef", 0.0)) if asked else 0.0)


@contextmanager
def watching(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Inside, the list gets the router logits of every pass, layer after layer, without gradient."""
    recorder, seen = _recorder(model), []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        seen.append((output[recorder.index] if isinstance(output, tuple) else output).detach())

    with ExitStack() as stack:
        for module in _routers(model):
            stack.callback(module.register_forward_hook(keep).remove)
        yield seen


def load_metrics(load: Tensor) -> dict[str, float]:
    """How uneven it is, from `Experts.load` over any number of tokens.

    `expert_load_max` is the busiest expert's share over the mean, of the layer where it is largest; 1 is even.
    `expert_idle_fraction` is the share of experts that got no token.
    """
    busiest = load.amax(-1) / load.mean(-1).clamp_min(1e-9)
    return {"expert_load_max": float(busiest.max()), "expert_idle_fraction": float((load == 0).double().mean())}


def _routers(model: PreTrainedModel) -> list[nn.Module]:
    recorder = _recorder(model)
    return [module for module in model.modules() if recorder and isinstance(module, recorder.target_class)]


def _recorder(model: PreTrainedModel) -> Any:
    """How transformers finds the routers of this family; None where it does not."""
    found = (getattr(model.base_model, "_can_record_outputs", None) or {}).get("router_logits")
    return found if hasattr(found, "target_class") else None  # else several at once, which are not told apart here
