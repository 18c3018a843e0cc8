from typing import Any

import pytest
import torch
from torch import Tensor

from fipo.algorithm.loss import policy_loss
from fipo.algorithm.options import LossOptions
from fipo.algorithm.placebo import placebo_weights
from fipo.algorithm.responses import Responses
from fipo.errors import ConfigError

WEIGHTS = torch.tensor([[1.0, 1.2, 0.9, 1.0, 0.8, 1.1, 1.2, 1.0]])
MASK = torch.tensor([[False, True, True, True, True, True, True, False]])
TWO = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])  # responses 1.2, 0.9, 1.0 and 0.8, 1.1, 1.2


def placebo(kind: Any, segment_ids: Tensor | None = None) -> list[float]:
    return placebo_weights(WEIGHTS, MASK, kind, Responses(segment_ids))[0].tolist()


def test_mean_keeps_what_a_response_counts() -> None:
    mean = 6.2 / 6
    assert placebo("mean") == pytest.approx([1.0, *[mean] * 6, 1.0])
    first, second = 3.1 / 3, 3.1 / 3
    assert placebo("mean", TWO) == pytest.approx([1.0, *[first] * 3, *[second] * 3, 1.0])


def test_sign_keeps_the_direction_and_the_mean_size() -> None:
    size = (0.2 + 0.1 + 0.0 + 0.2 + 0.1 + 0.2) / 6
    assert placebo("sign") == pytest.approx([1, 1 + size, 1 - size, 1, 1 - size, 1 + size, 1 + size, 1])
    first, second = 0.3 / 3, 0.5 / 3
    expected = [1, 1 + first, 1 - first, 1, 1 - second, 1 + second, 1 + second, 1]
    assert placebo("sign", TWO) == pytest.approx(expected)


def test_shuffle_moves_weights_within_the_response() -> None:
    torch.manual_seed(0)
    orders = set()
    for _ in range(50):
        first, *middle, last = placebo("shuffle", TWO)
        assert (first, last) == (1.0, 1.0)
        assert sorted(middle[:3]) == pytest.approx([0.9, 1.0, 1.2])
        assert sorted(middle[3:]) == pytest.approx([0.8, 1.1, 1.2])
        orders.add(tuple(middle[:3]))
    assert len(orders) == 6  # all permutations of three


def test_flip_weakens_what_is_amplified() -> None:
    assert placebo("flip") == pytest.approx([1.0, 0.8, 1.1, 1.0, 1.2, 0.9, 0.8, 1.0])
    far = placebo_weights(torch.tensor([[10.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool), "flip", Responses())
    assert far.tolist() == [[0.0, 2.0]]


def test_other_takes_the_weights_of_the_next_response() -> None:
    assert placebo("other", TWO) == pytest.approx([1.0, 0.8, 1.1, 1.2, 1.2, 0.9, 1.0, 1.0])
    assert placebo("other") == pytest.approx(WEIGHTS[0].tolist()), "a response that is alone keeps its own"
    # Rows of one, three and no response tokens, and a packed row: the shorter one's weights come over again.
    weights = torch.tensor([[0.9, 5.0, 5.0], [1.1, 1.2, 0.8], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[True, False, False], [True, True, True], [False, False, False]])
    rows = placebo_weights(weights, mask, "other", Responses())
    assert rows.flatten().tolist() == pytest.approx([1.1, 5, 5, 0.9, 0.9, 0.9, 5, 5, 5])
    packed = placebo_weights(
        weights.reshape(1, -1), mask.reshape(1, -1), "other", Responses(torch.arange(3).repeat_interleave(3)[None])
    )
    assert packed.flatten().tolist() == rows.flatten().tolist()
    assert placebo_weights(weights, torch.zeros_like(mask), "other", Responses()).tolist() == weights.tolist()


@pytest.mark.parametrize("kind", ["shuffle", "mean", "sign", "flip", "other"])
def test_the_loss_uses_it(kind: Any) -> None:
    torch.manual_seed(0)
    old = -torch.rand(3, 20)
    log_probs = old + 0.1 * torch.randn(3, 20)
    case = (log_probs, old, torch.randn(3, 1).expand(3, 20), torch.ones(3, 20, dtype=torch.bool))
    plain, control = policy_loss(LossOptions(), *case), policy_loss(LossOptions(placebo=kind), *case)
    assert control.loss.item() != plain.loss.item()
    if kind not in ("sign", "flip"):
        torch.testing.assert_close(control.metrics["influence_weight_mean"], plain.metrics["influence_weight_mean"])


def test_an_unknown_choice_is_named() -> None:
    with pytest.raises(
        ConfigError, match="placebo: must be one of none, shuffle, mean, sign, flip, other; got 'random'"
    ):
        LossOptions(placebo="random")  # type: ignore[arg-type]
