from typing import Any

import pytest
import torch
from torch import Tensor

from fipo.algorithm import log_probs
from fipo.algorithm.log_probs import linear_log_probs, log_probs_of_logits
from tests.present import present


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log_p = torch.log_softmax(hidden @ weight.T / temperature, -1)
    return log_p[torch.arange(len(targets)), targets], -(log_p.exp() * log_p).sum(-1)


def case(tokens: int, width: int, vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (tokens,), generator=generator)


def test_by_hand() -> None:
    # Logits 0 and log 3: probabilities 1/4 and 3/4.
    weight = torch.tensor([[0.0], [3.0]]).log().nan_to_num(neginf=0.0)
    log_probs, entropy = linear_log_probs(torch.ones(2, 1), weight, torch.tensor([0, 1]))
    torch.testing.assert_close(log_probs, torch.tensor([0.25, 0.75]).log())
    torch.testing.assert_close(entropy, torch.full((2,), 0.5623351446))


@pytest.mark.parametrize("chunk_tokens", [1, 3, 7, 100, None])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_equals_log_softmax_of_the_logits(chunk_tokens: int | None, temperature: float) -> None:
    hidden, weight, targets = case(7, 5, 11, torch.float64)
    above = torch.randn(7, dtype=torch.float64)
    actual = linear_log_probs(hidden, weight, targets, temperature=temperature, chunk_tokens=chunk_tokens)
    expected = plain(hidden, weight, targets, temperature)
    torch.testing.assert_close(actual, expected)
    assert not actual[1].requires_grad
    for name, parameter in (("hidden", hidden), ("weight", weight)):
        ours, again = (torch.autograd.grad(actual[0], parameter, above, retain_graph=True)[0] for _ in range(2))
        (theirs,) = torch.autograd.grad(expected[0], parameter, above, retain_graph=True)
        torch.testing.assert_close(ours, theirs, msg=name)
        assert torch.equal(ours, again)


@pytest.mark.parametrize("chunk_tokens", [2, None])
def test_gradcheck(chunk_tokens: int | None) -> None:
    hidden, weight, targets = case(5, 3, 6, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w: linear_log_probs(h, w, targets, temperature=0.8, chunk_tokens=chunk_tokens)[0], (hidden, weight)
    )


def test_large_logits_stay_finite() -> None:
    hidden = torch.full((1, 1), 1e4)
    log_probs, entropy = linear_log_probs(hidden, torch.tensor([[1.0], [0.0]]), torch.tensor([1]))
    assert log_probs.item() == -1e4
    assert entropy.item() == 0.0


def test_bfloat16_gives_float32_results_and_bfloat16_gradients() -> None:
    hidden, weight, targets = case(6, 8, 10, torch.bfloat16)
    log_probs, entropy = linear_log_probs(hidden, weight, targets, chunk_tokens=4)
    assert log_probs.dtype == entropy.dtype == torch.float32
    log_probs.sum().backward()
    hidden32, weight32 = (x.detach().float().requires_grad_() for x in (hidden, weight))
    plain(hidden32, weight32, targets, 1.0)[0].sum().backward()
    torch.testing.assert_close(present(hidden.grad).float(), hidden32.grad, rtol=0.03, atol=0.1)
    torch.testing.assert_close(present(weight.grad).float(), weight32.grad, rtol=0.03, atol=0.1)


def test_frozen_head_and_no_tokens() -> None:
    hidden, weight, targets = case(3, 4, 5, torch.float32)
    log_probs, _ = linear_log_probs(hidden, weight.detach(), targets)
    log_probs.sum().backward()
    none_yet = weight.grad
    assert none_yet is None
    log_probs, entropy = linear_log_probs(hidden[:0], weight, targets[:0])
    log_probs.sum().backward()
    assert len(log_probs) == len(entropy) == 0
    assert present(weight.grad).eq(0).all()


def test_a_tied_head_gets_both_gradients() -> None:
    _, weight, targets = case(6, 4, 9, torch.float64)
    ids = targets.roll(1)
    ours, theirs = (
        linear_log_probs(weight[ids], weight, targets, chunk_tokens=4),
        plain(weight[ids], weight, targets, 1.0),
    )
    torch.testing.assert_close(*(torch.autograd.grad(x[0].sum(), weight)[0] for x in (ours, theirs)))


def test_compiles_without_graph_breaks() -> None:
    hidden, weight, targets = case(7, 5, 11, torch.float32)
    compiled = torch.compile(
        lambda h, w, y: linear_log_probs(h, w, y, chunk_tokens=3), backend="aot_eager", fullgraph=True
    )
    ours, theirs = compiled(hidden, weight, targets), linear_log_probs(hidden, weight, targets, chunk_tokens=3)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(x[0].sum(), (hidden, weight)) for x in (ours, theirs)))


@pytest.mark.parametrize("chunk_tokens", [2, None])
@pytest.mark.parametrize("soft_cap", [None, 4.0])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_heads_with_bias_scale_and_cap(scale: float, soft_cap: float | None, chunk_tokens: int | None) -> None:
    hidden, weight, targets = case(5, 3, 6, torch.float64)
    bias = torch.linspace(-2.0, 2.0, 6, dtype=torch.float64).requires_grad_()

    def logits() -> Tensor:
        raw = scale * (hidden @ weight.T + bias)
        return (raw if soft_cap is None else soft_cap * torch.tanh(raw / soft_cap)) / 0.7

    def ours(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        settings: dict[str, Any] = {
            "temperature": 0.7,
            "scale": scale,
            "soft_cap": soft_cap,
            "chunk_tokens": chunk_tokens,
        }
        return linear_log_probs(h, w, targets, bias=b, **settings)[0]

    expected = torch.log_softmax(logits(), -1)[torch.arange(5), targets]
    torch.testing.assert_close(ours(hidden, weight, bias), expected)
    assert torch.autograd.gradcheck(ours, (hidden, weight, bias))


def test_logits_that_are_there() -> None:
    hidden, weight, targets = case(7, 5, 11, torch.float32)
    torch.testing.assert_close(
        log_probs_of_logits(hidden @ weight.T, targets, temperature=0.7), plain(hidden, weight, targets, 0.7)
    )


@pytest.mark.parametrize(
    ("tokens", "most", "sizes"),
    [
        (7, 3, [1, 3, 3]),
        (6, 3, [3, 3]),
        (2, 3, [2]),
        (0, 3, [0]),
        (1500, 658, [476, 512, 512]),
        (1024, 658, [512, 512]),
    ],
)
def test_chunks_are_whole_tiles_and_the_last_is_a_full_one(tokens: int, most: int, sizes: list[int]) -> None:
    parts = log_probs._chunks(tokens, most)
    assert [part.stop - part.start for part in parts] == sizes
    assert parts[0].start == 0 and parts[-1].stop == tokens


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_bfloat16_sums_are_float32_and_take_no_second_weight(temperature: float) -> None:
    """The gradient of the head is that of float64 to the rounding of bfloat16 once, over many chunks."""
    hidden, weight, targets = case(600, 32, 50, torch.float32)
    low = [one.detach().bfloat16().requires_grad_() for one in (hidden, weight)]
    exact = [one.detach().double().requires_grad_() for one in low]
    linear_log_probs(low[0], low[1], targets, temperature=temperature, chunk_tokens=64)[0].sum().backward()
    plain(exact[0], exact[1], targets, temperature)[0].sum().backward()
    for one, other in zip(low, exact, strict=True):
        assert one.grad is not None and other.grad is not None
        apart = (one.grad.double() - other.grad).norm() / other.grad.norm()
        assert apart < 2.0**-7, apart
