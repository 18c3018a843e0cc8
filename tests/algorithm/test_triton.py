"""The Triton kernels in Triton's interpreter on the CPU. Run by itself it compares; the test needs triton installed."""

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fipo.algorithm.future_kl import future_kl
from fipo.algorithm.log_probs import linear_log_probs

HEADS: dict[str, tuple[float, float, float | None]] = {
    "plain": (1.0, 1.0, None),
    "temperature and scale": (0.7, 0.25, None),
    "soft cap": (1.3, 1.5, 4.0),
}
"""Temperature, scale and soft cap."""


def listing(
    inputs: Sequence[Tensor], targets: Tensor, temperature: float, scale: float, cap: float | None
) -> tuple[Tensor, Tensor]:
    """The definition, with all logits and torch's log_softmax, in float64."""
    hidden, weight, *bias = inputs
    logits = hidden @ weight.T + sum(bias)
    logits = scale * logits if cap is None else cap * torch.tanh(scale * logits / cap)
    log_p = torch.log_softmax(logits / temperature, -1)
    return log_p.gather(-1, targets[:, None]).squeeze(-1), -(log_p.exp() * log_p).sum(-1)


def compare_scan() -> None:
    from fipo.algorithm.scan_triton import masked_reverse_scan

    torch.manual_seed(0)
    for time, half_life in ((1, 32.0), (1030, 32.0), (1030, math.inf), (70, 0.3)):
        log_ratio, mask = torch.randn(2, time), torch.rand(2, time) < 0.8
        log_ratio[~mask] = math.nan
        for segment_ids in (None, (torch.rand(2, time) < 0.01).cumsum(-1)):
            for x in (log_ratio, log_ratio.bfloat16()):
                expected = future_kl(x, mask, half_life=half_life, segment_ids=segment_ids)
                actual = masked_reverse_scan(x, mask, half_life, segment_ids)
                # The interpreter adds token after token, which a GPU does not: float32 rounding comes to 1e-5.
                torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def compare_log_probs() -> None:
    """A vocabulary that is no whole number of blocks or tiles; then tokens and words in two parts each."""
    from fipo.algorithm.log_probs_triton import FusedLinearLogProbs

    torch.manual_seed(0)
    for tokens, words, elements in ((3, 2600, 2**28), (260, 300, 300 * 256), (0, 40, 2**28)):
        for biased in (False, True):
            for temperature, scale, cap in list(HEADS.values())[: 3 if tokens == 3 else biased]:
                hidden, weight = torch.randn(tokens, 6), torch.randn(words, 6)
                bias = 3.0 * torch.randn(words) if biased else None
                targets = torch.randint(words, (tokens,))
                above = torch.randn(tokens)
                inputs = [one for one in (hidden, weight, bias) if one is not None]
                exact = [one.double().requires_grad_() for one in inputs]
                found = FusedLinearLogProbs.apply(
                    *(
                        hidden.requires_grad_(),
                        weight.requires_grad_(),
                        None if bias is None else bias.requires_grad_(),
                    ),
                    *(targets, (scale, cap, temperature), elements),
                )
                expected = listing(exact, targets, temperature, scale, cap)
                for ours, theirs in zip(found, expected, strict=True):
                    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
                found[0].backward(above)
                expected[0].backward(above.double())
                for one, other in zip(inputs, exact, strict=True):
                    assert one.grad is not None
                    torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("what", ["compare_scan", "compare_log_probs"])
def test_the_kernels_equal_the_definition(what: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, __file__, what], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_scan_is_taken_on_a_gpu() -> None:
    torch.manual_seed(0)
    log_ratio, mask = torch.randn(8, 20480), torch.rand(8, 20480) < 0.8
    for segment_ids in (None, (torch.rand(8, 20480) < 0.001).cumsum(-1)):
        expected = future_kl(log_ratio, mask, half_life=32.0, segment_ids=segment_ids)
        on_gpu = None if segment_ids is None else segment_ids.cuda()
        actual = future_kl(log_ratio.cuda(), mask.cuda(), half_life=32.0, segment_ids=on_gpu).cpu()
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probs_on_a_gpu_equal_the_definition(head: str, dtype: torch.dtype) -> None:
    """bfloat16 inputs are exact in float64; what is rounded besides is the error that the gradients are made of."""
    temperature, scale, cap = HEADS[head]
    torch.manual_seed(0)
    hidden, weight = torch.randn(700, 256), 0.1 * torch.randn(5000, 256)
    bias, targets, above = torch.randn(5000), torch.randint(5000, (700,)).cuda(), torch.randn(700).cuda()
    inputs = [one.to("cuda", dtype).requires_grad_() for one in (hidden, weight, bias)]
    exact = [one.detach().double().requires_grad_() for one in inputs]
    found = linear_log_probs(
        inputs[0],
        inputs[1],
        targets,
        bias=inputs[2],
        temperature=temperature,
        scale=scale,
        soft_cap=cap,
        chunk_tokens=300,
    )
    expected = listing(exact, targets, temperature, scale, cap)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-5)
    found[0].backward(above)
    expected[0].backward(above.double())
    for one, other in zip(inputs, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        apart = (one.grad.double() - other.grad).norm() / other.grad.norm()
        assert apart < (1e-5 if dtype is torch.float32 else 5e-3)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
