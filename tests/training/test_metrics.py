"""Metrics of a step from those of its updates."""

import pytest
import torch

from fipo.training.rl.metrics import combine, guard_warnings, reduce_updates, update_metrics


class Ranks:
    """This rank and another, whose values are given."""

    def __init__(self, other):
        self.other = other

    def sum(self, values):
        return values + self.other

    def max(self, values):
        return torch.maximum(values, self.other if values.sum() >= 0 else -self.other)


def test_parts_combine_by_their_kind():
    one, other = torch.tensor(1.0), torch.tensor(3.0)
    assert [combine(name, one, other).item() for name in ("a_min", "a_max", "a_mean")] == [1.0, 3.0, 4.0]


def test_updates_are_reduced_over_ranks_then_over_the_step():
    # Two updates; columns in alphabetical order: future_kl_square_mean, ..._mean, ..._min, ..._square_deviation.
    def update(*values):
        names = ("future_kl_square_mean", "influence_weight_mean", "influence_weight_min",
                 "influence_weight_square_deviation")  # fmt: skip
        return dict(zip(names, map(torch.tensor, values)))

    other = torch.tensor([[0.0, 0.5, 0.9, 0.0], [0.04, 0.6, 0.7, 0.03]])
    reduced = reduce_updates([update(0.0001, 0.5, 0.8, 0.0), update(0.05, 0.5, 0.95, 0.02)], Ranks(other))
    assert reduced["influence_weight_mean"] == pytest.approx([1.0, 1.1])
    assert reduced["influence_weight_min"] == pytest.approx([0.8, 0.7])
    metrics = update_metrics(reduced)
    assert metrics["train/influence_weight_mean"] == pytest.approx(1.05)
    assert metrics["train/influence_weight_min"] == pytest.approx(0.7)
    assert metrics["train/influence_weight_std_update_0"] == 0.0
    assert metrics["train/influence_weight_std_update_1"] == pytest.approx(0.2)  # sqrt(0.05 - 0.1^2)
    assert metrics["train/future_kl_noise"] == pytest.approx(0.01)
    assert guard_warnings(reduced, half_life=32.0) == []


def test_a_step_on_which_fipo_did_nothing_is_told():
    reduced = {"influence_weight_square_deviation": [0.0, 0.0], "future_kl_square_mean": [0.01, 0.0]}
    no_op, noise = guard_warnings(reduced, half_life=32.0)
    assert "FIPO did nothing" in no_op
    assert "0.1 nats" in noise
