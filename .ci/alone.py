"""The loss where fipo is installed with torch alone (`pip install fipo`): what an environment of its own says of it."""

from contextlib import suppress
from importlib import import_module

import torch

import fipo
from fipo import fipo_loss, future_kl

for other in ("numpy", "transformers", "pydantic", "deepspeed", "mlflow"):
    with suppress(ModuleNotFoundError):
        import_module(other)
        raise SystemExit(f"{other} is installed too: this shows nothing")

mask = torch.ones(1, 2, dtype=torch.bool)
old, new = torch.zeros(1, 2), torch.tensor([[0.0, 0.1]], requires_grad=True)
# With a half-life of one token: 0 + 0.1 / 2, then 0.1 (Eq. 6).
assert torch.allclose(future_kl(new, mask, half_life=1.0)[0], torch.tensor([0.05, 0.1]))
output = fipo_loss(new, old, torch.ones(1, 2), mask, half_life=1.0)
output.loss.backward()
# -(e^0.05 * 1 + e^0.1 * e^0.1) / 2 (Eq. 8); the weights are no part of the gradient, so each token's is its own term.
terms = torch.tensor([0.05, 0.2]).exp() / -2
assert torch.allclose(output.loss, terms.sum()), output.loss
assert torch.allclose(new.grad, terms[None]), new.grad
try:
    from fipo import Run  # noqa: F401
except ModuleNotFoundError as error:
    assert "pip install 'fipo[train]'" in str(error)
print(f"fipo {fipo.__version__} with torch {torch.__version__} alone: loss {output.loss.item():.4f}")
