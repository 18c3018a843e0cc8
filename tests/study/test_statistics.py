"""Against tables, worked examples and simulations that were not made with this code."""

import math

import numpy as np
import pytest

from fipo.study.statistics import difference_p, equivalence_p, holm, mean_over_seeds, seeds_needed


def test_students_interval_by_hand():
    mean = mean_over_seeds([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.3027, error 1 / sqrt(3)
    assert (mean.value, mean.seeds) == (2.0, 3)
    assert mean.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert not mean.differs_from_zero
    assert mean_over_seeds([2.0, 2.1, 1.9]).differs_from_zero
    assert not mean_over_seeds([5.0]).differs_from_zero
    wider = mean_over_seeds([1.0, 2.0, 3.0], significance=0.01)  # t(0.995, 2) = 9.9248
    assert wider.half_width == pytest.approx(9.9248 / math.sqrt(3), rel=1e-4)


def test_a_difference_by_hand():
    # Mean 2, error 1 / sqrt(3): t = 3.4641 at 2 degrees of freedom, where p = 1 - t / sqrt(t^2 + 2).
    assert difference_p([1.0, 2.0, 3.0]) == pytest.approx(1 - 3.4641 / math.sqrt(14), rel=1e-3)
    assert difference_p([5.0]) == 1.0
    assert difference_p([0.0, 0.0]) == 1.0


def test_equivalence_by_hand():
    # To the nearer margin, 3: t = (3 - 2) * sqrt(3) = 1.7321; one side at two degrees of freedom.
    assert equivalence_p([1.0, 2.0, 3.0], 3.0) == pytest.approx((1 - 1.7321 / math.sqrt(5)) / 2, rel=1e-3)
    assert equivalence_p([1.0, 2.0, 3.0], 1.0) > 0.5
    assert equivalence_p([0.0], 9.0) == 0.5


@pytest.mark.parametrize(("seeds", "once_in"), [(2, 4), (5, 32), (13, 8192)])
def test_seeds_that_agree_to_the_last_digit_are_counted_and_not_believed(seeds, once_in):
    """Scores have few values: two seeds agree often. That all lie on one side happens once in 2^n (the sign test)."""
    for value in (1 / 30, 0.1 + 0.2):
        same = np.full(seeds, value) + np.where(np.arange(seeds) % 2, 1e-17, 0.0)
        assert difference_p(same) == pytest.approx(2 / once_in)
        assert not mean_over_seeds(same).differs_from_zero and math.isnan(mean_over_seeds(same).half_width)
    assert difference_p([0.0] * seeds) == 1.0
    assert equivalence_p([0.0] * seeds, 0.02) == equivalence_p([0.1] * seeds, 0.2) == pytest.approx(1 / once_in)
    assert equivalence_p([0.3] * seeds, 0.2) == equivalence_p([0.2] * seeds, 0.2) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("effect", "power", "seeds"), [(0.5, 0.8, 34), (0.8, 0.8, 15), (0.2, 0.8, 199), (1.0, 0.9, 13)]
)
def test_seeds_as_published_for_the_paired_test(effect, power, seeds):
    """The figures that G*Power gives for Cohen's d of paired differences at 5 %, two-sided."""
    assert seeds_needed(1.0, effect, power=power, significance=0.05) == seeds
    assert seeds_needed(10.0, 10 * effect, power=power, significance=0.05) == seeds


def test_a_pilot_that_hardly_spreads_asks_for_few_seeds():
    assert [seeds_needed(spread, 0.01, power=0.8, significance=0.05) for spread in (1e-17, 1e-9, 1e-5)] == [2, 2, 2]


def test_so_many_seeds_find_a_planted_effect_among_nine_arms_without_one():
    """Two hundred studies with as many seeds as were computed, differences drawn from a normal distribution."""
    draw, deviation, effect, arms, studies = np.random.default_rng(5), 2.2, 1.0, 10, 200
    seeds = seeds_needed(deviation, effect, power=0.8, significance=0.05 / arms)
    found = false = equal = 0
    for _ in range(studies):
        differences = draw.normal(0.0, deviation, (arms, seeds))
        differences[0] += effect
        p, *others = holm([difference_p(one) for one in differences])
        found, false = found + (p < 0.05), false + any(other < 0.05 for other in others)
        equal += sum(one < 0.05 for one in holm([equivalence_p(one, effect) for one in differences])[1:])
    assert found / studies == pytest.approx(0.8, abs=0.07)
    assert false / studies <= 0.08
    assert equal / studies / (arms - 1) > 0.8, "most arms without an effect are called equivalent"
