import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fipo.algorithm.future_kl import future_kl, influence_weights
from fipo.errors import ConfigError

few = settings(max_examples=20, deadline=None, derandomize=True)


def equation_6(log_ratio: Tensor, mask: Tensor, half_life: float, segment_ids: Tensor | None = None) -> Tensor:
    """The definition as plain loops in float64."""
    gamma = 2.0 ** (-1.0 / half_life)
    ids = torch.zeros_like(log_ratio) if segment_ids is None else segment_ids
    rows = []
    for values, kept, segments in zip(log_ratio.tolist(), mask.tolist(), ids.tolist(), strict=True):
        rows.append([0.0] * len(values))
        for t in range(len(values)):
            for k in range(t, len(values)):
                if kept[k] and segments[k] == segments[t]:
                    rows[-1][t] += gamma ** (k - t) * values[k]
    return torch.tensor(rows, dtype=torch.float64)


def random_case(seed: int, batch: int, time: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    log_ratio = torch.randn(batch, time, generator=generator)
    mask = torch.rand(batch, time, generator=generator) < 0.8
    segment_ids = (torch.rand(batch, time, generator=generator) < 0.05).cumsum(-1)
    return log_ratio, mask, segment_ids


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal to 1e-6 of the largest value: what float32 sums with signs can promise."""
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=1e-6 * scale)


def test_by_hand() -> None:
    # gamma = 1/2. The masked token adds nothing but distance.
    log_ratio = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    mask = torch.tensor([[True, True, False, True]])
    assert future_kl(log_ratio, mask, half_life=1.0).tolist() == [[1 + 1 + 0 + 1, 2 + 0 + 2, 0 + 4, 8]]


@few
@given(
    seed=st.integers(0, 2**31), time=st.integers(1, 200), half_life=st.sampled_from([0.5, 8.0, 32.0, 256.0, math.inf])
)
def test_equals_the_definition(seed: int, time: int, half_life: float) -> None:
    log_ratio, mask, segment_ids = random_case(seed, 2, time)
    close(future_kl(log_ratio, mask, half_life=half_life), equation_6(log_ratio, mask, half_life))
    packed = future_kl(log_ratio, mask, half_life=half_life, segment_ids=segment_ids)
    close(packed, equation_6(log_ratio, mask, half_life, segment_ids))


def test_long_rows_cross_every_level_of_blocks() -> None:
    log_ratio, mask, segment_ids = random_case(0, 2, 20480)
    gamma = 2.0 ** (-1.0 / 32)
    for ids in (None, segment_ids):
        expected = torch.zeros(2, 20481, dtype=torch.float64)
        x = torch.where(mask, log_ratio, 0.0).double()
        for t in range(20479, -1, -1):
            goes_on = 1.0 if ids is None or t == 20479 else (ids[:, t] == ids[:, t + 1]).double()
            expected[:, t] = x[:, t] + gamma * goes_on * expected[:, t + 1]
        close(future_kl(log_ratio, mask, half_life=32.0, segment_ids=ids), expected[:, :-1])


def test_infinite_half_life_is_the_plain_suffix_sum() -> None:
    log_ratio, mask, _ = random_case(1, 3, 300)
    expected = torch.where(mask, log_ratio, 0.0).double().flip(-1).cumsum(-1).flip(-1)
    close(future_kl(log_ratio, mask, half_life=math.inf), expected)


@few
@given(seed=st.integers(0, 2**31), padding=st.integers(1, 100))
def test_padding_changes_nothing(seed: int, padding: int) -> None:
    log_ratio, mask, _ = random_case(seed, 2, 70)
    junk = torch.full((2, padding), math.nan)
    padded = future_kl(
        torch.cat([log_ratio, junk], 1), torch.cat([mask, torch.zeros_like(junk, dtype=torch.bool)], 1), half_life=32.0
    )
    close(padded[:, :70], future_kl(log_ratio, mask, half_life=32.0).double())
    assert padded[:, 70:].eq(0).all()


@few
@given(seed=st.integers(0, 2**31), lengths=st.lists(st.integers(1, 150), min_size=2, max_size=4))
def test_packing_changes_nothing(seed: int, lengths: list[int]) -> None:
    rows = [random_case(seed + index, 1, length)[:2] for index, length in enumerate(lengths)]
    packed = future_kl(
        torch.cat([log_ratio for log_ratio, _ in rows], 1),
        torch.cat([mask for _, mask in rows], 1),
        half_life=8.0,
        segment_ids=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None],
    )
    for part, (log_ratio, mask) in zip(packed.split(lengths, -1), rows, strict=True):
        close(part, future_kl(log_ratio, mask, half_life=8.0).double())


def test_sums_are_float32_for_bfloat16_input() -> None:
    log_ratio = torch.full((1, 2000), 2.0**-7, dtype=torch.bfloat16)
    result = future_kl(log_ratio, torch.ones(1, 2000, dtype=torch.bool), half_life=32.0)
    assert result.dtype == torch.float32
    assert result[0, 0].item() == pytest.approx(2.0**-7 / (1 - 2 ** (-1 / 32)), rel=1e-6)  # geometric series


def test_empty_time_axis_and_bad_half_life() -> None:
    assert future_kl(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), half_life=32.0).shape == (2, 0)
    with pytest.raises(ConfigError, match="half_life: must be a positive number of tokens; got 0"):
        future_kl(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), half_life=0.0)


def test_influence_weights_by_hand() -> None:
    kl = torch.tensor([[0.0, math.log(1.1), 5.0, -5.0, 500.0]])
    ones = torch.ones_like(kl)
    weights = influence_weights(kl, ones, ones, clip_low=0.2, clip_high=0.2, safety_ratio=3.0)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.1, 1.2, 0.8, 1.2]]))
    weights = influence_weights(kl, ones, ones, clip_low=0.0, clip_high=0.2, safety_ratio=3.0)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.1, 1.2, 1.0, 1.2]]))


@pytest.mark.parametrize(("safety", "expected"), [("reset", [1.0, 1.0, 1.2, 1.2]), ("clamp", [1.0, 0.8, 1.2, 1.2])])
def test_safety_stops_amplification_of_tokens_that_should_become_rarer(
    safety: Literal["reset", "clamp"], expected: list[float]
) -> None:
    # Unsafe and amplified; unsafe and damped; negative, but the ratio is at the threshold; positive.
    kl = torch.tensor([[1.0, -1.0, 1.0, 1.0]])
    advantages = torch.tensor([[-1.0, -1.0, -1.0, 1.0]])
    ratio = torch.tensor([[3.1, 3.1, 3.0, 9.0]])
    weights = influence_weights(kl, advantages, ratio, clip_low=0.2, clip_high=0.2, safety_ratio=3.0, safety=safety)
    torch.testing.assert_close(weights, torch.tensor([expected]))


def test_carries_no_gradient() -> None:
    log_ratio = torch.randn(2, 5, requires_grad=True)
    kl = future_kl(log_ratio, torch.ones(2, 5, dtype=torch.bool), half_life=8.0)
    weights = influence_weights(kl, torch.ones(2, 5), log_ratio.exp(), clip_low=0.2, clip_high=0.2, safety_ratio=3.0)
    assert not kl.requires_grad
    assert not weights.requires_grad
