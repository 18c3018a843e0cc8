"""What a causal language model makes of its last hidden states, found by asking the model itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

_SMALL, _LARGE = 2.0**-20, 2.0**40
_PROBES = (0.0, _SMALL, -_SMALL, 0.5, -0.5, 3.0, -7.0, 25.0, -60.0, 1e3, -1e4, _LARGE)
"""What the LM head is made to answer: powers of two show a scale without rounding, large ones a cap."""


@dataclass(frozen=True, slots=True)
class Head:
    """logits = cap(scale * (hidden @ weight.T + bias)), with cap(x) = soft_cap * tanh(x / soft_cap).

    Weight and bias are those of `model.get_output_embeddings()`, tied or not.
    """

    scale: float = 1.0
    """Granite divides its logits, Cohere multiplies them."""
    soft_cap: float | None = None
    """Gemma 2's `final_logit_softcapping`."""

    def __call__(self, raw: Tensor) -> Tensor:
        """Logits from `hidden @ weight.T + bias`."""
        logits = raw * self.scale
        return logits if self.soft_cap is None else self.soft_cap * torch.tanh(logits / self.soft_cap)

    def __str__(self) -> str:
        scale = "" if self.scale == 1.0 else f", scale {self.scale:g}"
        return f"linear{scale}{'' if self.soft_cap is None else f', soft cap {self.soft_cap:g}'}"


def measure_head(model: PreTrainedModel) -> Head | None:
    """The head of `model`; None where it is anything but linear with a scale and a cap.

    The model's own `forward` is run with its body and its LM head replaced, so that neither costs anything: the body
    gives a hidden state, which must reach the LM head as it is, and the LM head gives chosen logits, of which
    `forward` must make what the result says.
    """
    hidden = torch.linspace(-1.0, 1.0, 7)[None, None]
    raw = torch.tensor(_PROBES, dtype=torch.float64)[None, None]
    lm_head = _Answers(raw)
    shell = copy.copy(model)
    shell._modules = dict(model._modules)
    body = [name for name, module in model._modules.items() if module is model.base_model]
    head = [name for name, module in model._modules.items() if module is model.get_output_embeddings()]
    if not body or not head or not isinstance(model.get_output_embeddings(), nn.Linear):
        return None
    shell._modules[body[0]] = _Answers(MoeModelOutputWithPast(last_hidden_state=hidden))
    shell._modules[head[0]] = lm_head
    try:
        with torch.no_grad():
            logits = shell(input_ids=torch.zeros(1, 1, dtype=torch.int64), use_cache=False).logits.double()
    except Exception:  # whatever it is that such a model needs besides, its head is not ours to compute
        return None
    if logits.shape != raw.shape or lm_head.asked is None or not torch.equal(lm_head.asked, hidden):
        return None
    found = _fitted(dict(zip(_PROBES, logits.flatten().tolist(), strict=True)))
    return found if torch.allclose(found(raw), logits, rtol=1e-5, atol=1e-9) else None


def float32_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """hidden @ weight.T + bias in float32, for less precise inputs: bfloat16 would round logits by whole per cents."""
    if hidden.is_cuda:
        raw = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    else:
        raw = hidden.float() @ weight.t().float()
    return raw if bias is None else raw + bias


def _fitted(answers: dict[float, float]) -> Head:
    scale, largest = answers[_SMALL] / _SMALL, answers[_LARGE]
    scale = 1.0 if abs(scale - 1.0) < 1e-6 else scale
    capped = 0.0 < largest < 0.5 * scale * _LARGE
    return Head(scale, largest if capped else None)


class _Answers(nn.Module):
    """Gives one thing, and keeps what it was last asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.asked: Tensor | None = None

    def forward(self, asked: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        self.asked = asked
        return self.answer
