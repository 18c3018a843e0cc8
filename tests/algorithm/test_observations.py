"""What an environment says between the policy's tokens changes nothing: neither losses nor distances see it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fipo.algorithm.future_kl import future_kl
from fipo.algorithm.loss import policy_loss
from fipo.algorithm.options import LossOptions

OPTIONS = [
    LossOptions(half_life=4.0),
    LossOptions(half_life=4.0, dual_clip=1.3, drop_dual_clipped_responses=True),
    LossOptions(half_life=4.0, mask_future_kl=False, safety="clamp", safety_ratio=1.1),
    LossOptions(half_life=4.0, placebo="mean"),
    LossOptions(half_life=4.0, placebo="sign"),
    LossOptions(half_life=4.0, correction="mask", correction_level="sequence", correction_threshold=1.05),
    LossOptions(half_life=4.0, correction="truncate", correction_threshold=1.05),
    *(LossOptions(loss=loss, half_life=4.0) for loss in ("dapo", "grpo", "dr_grpo", "cispo", "sapo")),
    LossOptions(loss="gspo", half_life=4.0, clip_low=0.01, clip_high=0.01),
]


def suffix_sums(log_ratio: list[float], masked: list[bool], half_life: float) -> list[float]:
    """Eq. 6 of one response without observations, as the paper lists it."""
    return [
        sum(0.5 ** ((k - t) / half_life) * log_ratio[k] for k in range(t, len(log_ratio)) if not masked[k])
        for t in range(len(log_ratio))
    ]


def test_by_hand() -> None:
    # gamma = 1/2. Two turns, an observation of two tokens; the second turn's first token is left out by M_k.
    log_ratio = torch.tensor([[1.0, 2.0, math.nan, math.nan, 32.0, 8.0]])
    own = torch.tensor([[True, True, False, False, True, True]])
    mask = torch.tensor([[True, True, False, False, False, True]])
    found = future_kl(log_ratio, mask, half_life=1.0, own_tokens=own)
    # 1 + 2/2 + 8/8; 2 + 8/4; what the next own token has; 8/2; 8.
    assert found.tolist() == [[3.0, 4.0, 4.0, 4.0, 4.0, 8.0]]


@pytest.mark.parametrize("half_life", [0.5, 8.0, 256.0, math.inf])
@pytest.mark.parametrize("time", [1, 15, 40, 700])
def test_distances_count_own_tokens(half_life: float, time: int) -> None:
    generator = torch.Generator().manual_seed(time)
    log_ratio = torch.randn(1, time, generator=generator)
    own = torch.rand(1, time, generator=generator) < 0.5
    mask = own & (torch.rand(1, time, generator=generator) < 0.9)
    ids = (torch.rand(1, time, generator=generator) < 0.05).cumsum(-1)
    found = future_kl(log_ratio, mask, half_life=half_life, segment_ids=ids, own_tokens=own)
    for segment in ids.unique():
        here = own & (ids == segment)
        expected = suffix_sums(log_ratio[here].tolist(), (~mask[here]).tolist(), half_life)
        torch.testing.assert_close(found[here], torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-5)


def packed(lengths: list[int], seed: int) -> dict[str, Tensor]:
    """A row of responses without observations."""
    generator = torch.Generator().manual_seed(seed)
    time = sum(lengths)
    old = -torch.rand(1, time, generator=generator)
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    advantages = torch.randn(len(lengths), generator=generator)[ids]
    return {
        "log_probs": old + 0.4 * torch.randn(1, time, generator=generator),
        "old_log_probs": old,
        "advantages": advantages,
        "rollout_log_probs": old + 0.1 * torch.randn(1, time, generator=generator),
        "segment_ids": ids,
    }


def with_observations(row: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """The same row with tokens in between, whose values are traps, and which of its tokens are the policy's own."""
    generator = torch.Generator().manual_seed(seed)
    time = row["segment_ids"].shape[1]
    repeats = 1 + torch.randint(0, 4, (time,), generator=generator) * (torch.rand(time, generator=generator) < 0.4)
    source = torch.repeat_interleave(torch.arange(time), repeats)
    own = torch.ones(len(source), dtype=torch.bool)
    own[1:] = source[1:] != source[:-1]
    trap = torch.where(own, 0.0, math.nan)
    wide = {name: value[:, source] + (0 if name == "segment_ids" else trap) for name, value in row.items()}
    return wide, own[None]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: f"{options.loss}-{options.placebo}-{options.correction}"
)
def test_no_loss_and_no_metric_sees_an_observation(options: LossOptions) -> None:
    row = packed([7, 1, 30, 19], seed=3)
    wide, own = with_observations(row, seed=4)
    assert not own.all()
    found = []
    for tensors, mask, have_observations in (
        (row, torch.ones_like(row["segment_ids"], dtype=torch.bool), False),
        (wide, own, True),
    ):
        arguments: dict[str, Any] = dict(tensors)
        log_probs = arguments.pop("log_probs").requires_grad_()
        output = policy_loss(
            options,
            log_probs,
            response_mask=mask,
            num_loss_tokens=60.0,
            num_loss_responses=4.0,
            max_response_tokens=64,
            have_observations=have_observations,
            **arguments,
        )
        (gradient,) = torch.autograd.grad(output.loss, log_probs)
        assert gradient[~mask].eq(0).all()
        found.append((output.loss.detach(), gradient[mask], output.metrics))
    (loss, gradient, metrics), (other_loss, other_gradient, other_metrics) = found
    torch.testing.assert_close(other_loss, loss, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-4, atol=1e-7)
    for name, value in metrics.items():
        torch.testing.assert_close(other_metrics[name], value, rtol=1e-5, atol=1e-6, msg=name)
