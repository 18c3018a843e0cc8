"""Metrics of a step from those of its updates."""

import pytest
import torch

from fipo.algorithm.measurement import COMMON, HIGHEST, LOWEST, SHARE, Measurement
from fipo.batch import Outcome, Score
from fipo.training.rl.metrics import Series, guard_warnings, reduce_updates, reward_metrics, update_metrics


class Ranks:
    """This rank, of values above those here, and another, which has the negative of each."""

    def sum(self, values):
        return values - values

    def max(self, values):
        return torch.maximum(values, -values)


@pytest.mark.parametrize(
    ("reduction", "joined", "over_ranks", "over_updates"),
    [(SHARE, 4.0, 0.0, 2.0), (LOWEST, 1.0, -3.0, 1.0), (HIGHEST, 3.0, 3.0, 3.0), (COMMON, 3.0, 3.0, 2.0)],
)
def test_parts_are_put_together_by_their_kind(reduction, joined, over_ranks, over_updates):
    one, other = (Measurement(torch.tensor(value), reduction) for value in (1.0, 3.0))
    assert one.joined(other) == Measurement(torch.tensor(joined), reduction)
    assert reduction.ranks(Ranks(), torch.tensor(3.0)) == over_ranks
    assert reduction.updates([1.0, 3.0]) == over_updates


class TwoRanks:
    """This rank and another, which measures what is given for what this one measures."""

    def __init__(self, other):
        self.other = other

    def seen(self, values):
        return torch.tensor([[self.other[round(value.item(), 6)] for value in row] for row in values])

    def sum(self, values):
        return values + self.seen(values)

    def max(self, values):
        return torch.maximum(values, self.seen(values) if values.sum() >= 0 else -self.seen(-values))


def test_updates_are_reduced_over_ranks_then_over_the_step():
    kinds = {"future_kl_square_mean": SHARE, "influence_weight_mean": SHARE, "least": LOWEST,
             "influence_weight_square_deviation": SHARE, "greatest": HIGHEST, "grad_norm": COMMON,
             "influence_clip_low_fraction": SHARE, "influence_clip_high_fraction": SHARE}  # fmt: skip

    def update(*values):
        return {name: Measurement(torch.tensor(value), kinds[name]) for name, value in zip(kinds, values)}

    updates = [
        update(0.0001, 0.51, 0.8, 0.001, 3.0, 0.25, 0.125, 0.0625),
        update(0.05, 0.5, 0.95, 0.02, 5.0, 0.75, 0.25, 0.375),
    ]
    other = {0.0001: 0.0, 0.51: 0.49, 0.8: 0.9, 0.001: -0.001, 3.0: 4.0, 0.05: 0.04, 0.5: 0.6, 0.95: 0.7, 0.02: 0.03,
             5.0: 1.0, 0.125: 0.125, 0.0625: 0.0625, 0.25: 0.25, 0.375: 0.125}  # fmt: skip
    reduced = reduce_updates(updates, TwoRanks(other))
    assert reduced["influence_weight_mean"].values == pytest.approx([1.0, 1.1])
    assert reduced["least"].values == pytest.approx([0.8, 0.7])
    assert reduced["greatest"].values == pytest.approx([4.0, 5.0])
    assert reduced["grad_norm"].values == pytest.approx([0.25, 0.75])
    metrics = update_metrics(reduced)
    assert metrics["train/influence_weight_mean"] == pytest.approx(1.05)
    assert metrics["train/least"] == pytest.approx(0.7)
    assert metrics["train/greatest"] == pytest.approx(5.0)
    assert metrics["train/grad_norm"] == pytest.approx(0.5)
    # By hand: (0.25 + 0.5) / 2 at the lower bound, (0.125 + 0.5) / 2 at the upper one.
    assert metrics["train/influence_clip_fraction"] == pytest.approx(0.375 + 0.3125)
    assert metrics["train/influence_weight_std_update_0"] == pytest.approx(0.0, abs=1e-4)
    assert metrics["train/influence_weight_std_update_1"] == pytest.approx(0.2)  # sqrt(0.05 - 0.1^2)
    assert metrics["train/future_kl_noise"] == pytest.approx(0.01)
    assert guard_warnings(reduced, half_life=32.0) == []


def test_a_step_on_which_fipo_did_nothing_is_told():
    reduced = {
        "influence_weight_square_deviation": Series([0.0, 0.0], SHARE),
        "future_kl_square_mean": Series([0.01, 0.0], SHARE),
    }
    no_op, noise = guard_warnings(reduced, half_life=32.0)
    assert "FIPO did nothing" in no_op
    assert "0.1 nats" in noise


def test_each_reward_function_is_measured_before_its_weight_where_there_is_a_verdict():
    one, other = (
        Score(Outcome.CORRECT, accuracy=1.0, reward=1.0, components={"accuracy": 1.0, "my.tools:steps": steps})
        for steps in (3.0, 8.0)
    )
    without = Score(Outcome.TIMEOUT, accuracy=0.0, reward=0.0)
    assert reward_metrics([one, without, other]) == {"reward/accuracy": 1.0, "reward/my.tools.steps": 5.5}
    assert reward_metrics([without]) == {}
