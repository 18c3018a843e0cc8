from typing import Any

import pytest
import torch

from fipo.algorithm.loss import LossOutput, fipo_loss, policy_loss
from fipo.algorithm.options import LossOptions
from fipo.errors import ConfigError

# Importance weights of two responses, of three tokens and of one.
WEIGHTS = torch.tensor([[0.25, 1.0, 4.0], [3.0, 7.0, 7.0]])
MASK = torch.tensor([[True, True, True], [True, False, False]])
ADVANTAGES = torch.tensor([[-1.0, -1.0, -1.0], [-2.0, 0.0, 0.0]])


def corrected(**options: Any) -> LossOutput:
    """An unchanged policy: the loss of a token is minus its advantage, times the correction."""
    old = torch.full((2, 3), -1.0)
    rollout = old - WEIGHTS.log()
    return policy_loss(LossOptions(**options), old, old, ADVANTAGES, MASK, rollout_log_probs=rollout)


@pytest.mark.parametrize(
    ("correction", "level", "expected"),
    [
        ("none", "token", 1 + 1 + 1 + 2 * 1),
        ("truncate", "token", 0.25 + 1 + 2 + 2 * 2),
        ("mask", "token", 0 + 1 + 0 + 2 * 0),
        ("truncate", "sequence", 1 + 1 + 1 + 2 * 2),  # the geometric mean of 1/4, 1 and 4 is 1
        ("mask", "sequence", 1 + 1 + 1 + 2 * 0),
    ],
)
def test_by_hand(correction: str, level: str, expected: float) -> None:
    output = corrected(correction=correction, correction_level=level, correction_threshold=2.0)
    assert output.loss.item() == pytest.approx(expected / 4, rel=1e-6)


def test_packed_rows_are_corrected_response_by_response() -> None:
    options = LossOptions(correction="truncate", correction_level="sequence")
    old = torch.full((1, 6), -1.0)
    output = policy_loss(
        options,
        old,
        old,
        ADVANTAGES.view(1, 6),
        MASK.view(1, 6),
        rollout_log_probs=old - WEIGHTS.view(1, 6).log(),
        segment_ids=torch.tensor([[0, 0, 0, 1, 1, 1]]),
    )
    assert output.loss.item() == pytest.approx((1 + 1 + 1 + 2 * 2) / 4, rel=1e-6)


def test_the_sequence_level_does_not_grow_with_length() -> None:
    # 1 % a token, 2,000 tokens: the product is 4e8, the geometric mean 1.01.
    old = torch.full((1, 2000), -1.0)
    options = LossOptions(correction="mask", correction_level="sequence", correction_threshold=1.05)
    mask, advantages = torch.ones(1, 2000, dtype=torch.bool), torch.full((1, 2000), -1.0)
    output = policy_loss(options, old, old, advantages, mask, rollout_log_probs=old - torch.tensor(1.01).log())
    assert output.loss.item() == pytest.approx(1.01, rel=1e-5)


def test_metrics_show_the_mismatch() -> None:
    metrics = {name: value.item() for name, value in corrected(correction="mask").metrics.items()}
    log = torch.tensor([0.25, 1.0, 4.0, 3.0]).log()
    assert metrics["mismatch_weight_mean"] == pytest.approx(8.25 / 4)
    assert metrics["mismatch_weight_max"] == pytest.approx(4.0)
    assert metrics["mismatch_kl_k3"] == pytest.approx((8.25 - 4 - log.sum().item()) / 4)
    assert metrics["mismatch_log_prob_gap_mean"] == pytest.approx(log.abs().mean().item())
    assert metrics["mismatch_log_prob_gap_max"] == pytest.approx(log[2].item())
    assert metrics["correction_mean"] == pytest.approx(1 / 4)
    assert metrics["correction_masked_fraction"] == pytest.approx(3 / 4)


def test_an_engine_that_agrees_changes_nothing() -> None:
    torch.manual_seed(0)
    old = -torch.rand(2, 50)
    case = (old + 0.1 * torch.randn(2, 50), old, torch.randn(2, 50), torch.ones(2, 50, dtype=torch.bool))
    plain = fipo_loss(*case)
    for level in ("token", "sequence"):
        options = LossOptions(correction="truncate", correction_level=level)
        output = policy_loss(options, *case, rollout_log_probs=old)
        assert output.loss.item() == plain.loss.item()
        assert output.metrics["mismatch_weight_mean"].item() == 1.0


def test_a_correction_needs_the_engine_s_log_probs() -> None:
    x = torch.zeros(1, 2)
    with pytest.raises(ConfigError, match="rollout_log_probs: must be given with correction mask; got None"):
        policy_loss(LossOptions(correction="mask"), x, x, x, x.bool())
