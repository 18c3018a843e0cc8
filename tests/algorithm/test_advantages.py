import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.algorithm.advantages import group_advantages

few = settings(max_examples=20, deadline=None, derandomize=True)

groups = st.lists(st.lists(st.sampled_from([0.0, 1.0, -0.5, 0.1]), min_size=1, max_size=6), min_size=1, max_size=4)


def flat(grouped: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    rewards = [reward for group in grouped for reward in group]
    ids = [index for index, group in enumerate(grouped) for _ in group]
    return torch.tensor(rewards, dtype=torch.float64), torch.tensor(ids)


def test_by_hand() -> None:
    # Rewards 1, 0, 0, 0: mean 1/4, sample variance (9/16 + 3/16) / 3 = 1/4. The other group, 5 and 7, interleaves.
    rewards = torch.tensor([1.0, 5.0, 0.0, 0.0, 7.0, 0.0])
    advantages = group_advantages(rewards, torch.tensor([3, 9, 3, 3, 9, 3]))
    torch.testing.assert_close(advantages, torch.tensor([1.5, -(0.5**0.5), -0.5, -0.5, 0.5**0.5, -0.5]))


def test_without_scaling_is_the_distance_from_the_mean() -> None:
    advantages = group_advantages(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), scale_by_std=False)
    assert advantages.tolist() == [0.5, -0.5]


def test_equal_rewards_and_lone_responses_give_zero() -> None:
    # The float64 mean of three 0.1 is not 0.1: without care the rounding would be normalised to ±1.
    assert group_advantages(torch.tensor([0.1, 0.1, 0.1, 2.0]), torch.tensor([0, 0, 0, 1])).tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_rewards_that_rounding_sets_apart_are_equal(dtype: torch.dtype, scale: float) -> None:
    tenth, fifth, three_tenths = (torch.tensor(value, dtype=dtype) * scale for value in (0.1, 0.2, 0.3))
    rewards = torch.stack([three_tenths, tenth + fifth, three_tenths, three_tenths.nextafter(3 * three_tenths)])
    assert len(rewards.unique()) > 1
    ids = torch.zeros(4, dtype=torch.int64)
    for scale_by_std in (True, False):
        assert group_advantages(rewards, ids, scale_by_std=scale_by_std).tolist() == [0.0] * 4


def test_a_small_reward_is_no_rounding() -> None:
    rewards, ids = torch.tensor([1.0, 1.0 + 1e-6], dtype=torch.float64), torch.tensor([0, 0])
    assert group_advantages(rewards, ids).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert group_advantages(torch.tensor([0, 1]), ids).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])


@few
@given(grouped=groups, constant=st.floats(-100.0, 100.0))
def test_a_constant_added_to_a_group_changes_nothing(grouped: list[list[float]], constant: float) -> None:
    rewards, ids = flat(grouped)
    shifted = rewards + constant * (ids == 0)
    torch.testing.assert_close(group_advantages(shifted, ids), group_advantages(rewards, ids), rtol=1e-6, atol=1e-6)


@few
@given(grouped=groups)
def test_each_group_has_mean_zero_and_unit_deviation(grouped: list[list[float]]) -> None:
    rewards, ids = flat(grouped)
    advantages = group_advantages(rewards, ids)
    for index, group in enumerate(grouped):
        values = advantages[ids == index].double()
        spread = 1.0 if len(set(group)) > 1 else 0.0
        torch.testing.assert_close(values.sum(), torch.tensor(0.0).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(values.square().sum(), torch.tensor(spread * (len(group) - 1)).double())
