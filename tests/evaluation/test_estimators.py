import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fipo.evaluation.estimators import RESAMPLES, avg_at_k, bootstrap, cons_at_k, paired_bootstrap, pass_at_k


def test_avg_at_k_is_the_share_of_correct_responses():
    assert avg_at_k([True, False, False, True, True]) == 0.6


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (4, 1, 1, 1 / 4),
        (4, 1, 2, 1 / 2),
        (5, 2, 3, 9 / 10),  # 1 - C(3, 3) / C(5, 3)
        (8, 0, 8, 0.0),
        (8, 1, 8, 1.0),
        (10, 8, 3, 1.0),  # two wrong ones cannot fill three draws
    ],
)
def test_pass_at_k_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-15)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_equals_enumeration_of_all_draws(case):
    n, c, k = case
    draws = [any(index < c for index in draw) for draw in itertools.combinations(range(n), k)]
    assert pass_at_k(n, c, k) == pytest.approx(sum(draws) / len(draws), abs=1e-15)


def test_pass_at_k_is_exact_where_factorials_overflow():
    # (1 - 1/2) draws of one correct response in two thousand: the plain ratio of floats is inf / inf.
    assert pass_at_k(2000, 1, 1000) == 0.5
    product = -math.expm1(sum(math.log1p(-700 / i) for i in range(1991, 2001)))
    assert pass_at_k(2000, 10, 700) == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(8, 4, 9), (8, 4, 0), (8, 9, 1), (8, -1, 1)])
def test_pass_at_k_refuses_what_has_no_unbiased_estimate(n, c, k):
    with pytest.raises(ValueError, match=r"got"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7", "7", "3"], [True, True, False], 1.0),
        (["7", "3", "3"], [True, False, False], 0.0),
        (["7", "3"], [True, False], 0.5),
        (["7", "3", "4"], [True, False, False], 1 / 3),
        (["3", "4"], [False, False], 0.0),
        ([None, None, "7"], [False, False, True], 1.0),  # responses without an answer do not vote
        ([None, None], [False, False], 0.0),
        (["1/2", "0.5", "3", "3"], [True, True, False, False], 0.5),  # 1/2 and 0.5 are one answer
        ([None, "3"], [True, False], 0.5),  # graded correct although no answer could be cut out
    ],
)
def test_cons_at_k_by_hand(answers, correct, expected):
    assert cons_at_k(answers, correct) == pytest.approx(expected)


def test_cons_at_k_equals_a_vote_with_random_tie_breaking():
    rng = np.random.default_rng(0)
    for _ in range(50):
        answers = [str(answer) for answer in rng.integers(0, 4, size=6)]
        counts = Counter(answers)
        leaders = [answer for answer in counts if counts[answer] == max(counts.values())]
        expected = np.mean([leader == "0" for leader in leaders])
        assert cons_at_k(answers, [answer == "0" for answer in answers]) == pytest.approx(expected)


def test_bootstrap_agrees_with_the_enumeration_of_all_resamples():
    scores = [0.0, 0.25, 1.0]
    means = [float(np.mean(sample)) for sample in itertools.product(scores, repeat=3)]
    estimate = bootstrap(scores)
    assert estimate.value == pytest.approx(5 / 12)
    # 27 equally likely resamples: the tails below 1/27 = 3.7 % are the constant ones.
    assert (estimate.low, estimate.high) == (0.0, 1.0)
    assert (min(means), max(means)) == (0.0, 1.0)


def test_bootstrap_agrees_with_scipy():
    scores = np.random.default_rng(1).beta(2, 1, size=200)
    theirs = stats.bootstrap((scores,), np.mean, method="percentile", n_resamples=RESAMPLES, rng=2).confidence_interval
    ours = bootstrap(scores)
    # The quantiles of 10,000 resamples scatter by 0.03 standard errors.
    tolerance = 0.15 * stats.sem(scores)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=tolerance)


def test_bootstrap_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(3)
    hits = sum(
        estimate.low <= 0.3 <= estimate.high
        for estimate in (bootstrap(rng.random(100) < 0.3, seed=trial) for trial in range(200))
    )
    assert 180 <= hits <= 199  # 190 expected, standard deviation 3


def test_bootstrap_is_determined_by_its_seed():
    scores = np.random.default_rng(4).random(50)
    assert bootstrap(scores, seed=1) == bootstrap(scores, seed=1)
    assert bootstrap(scores, seed=1) != bootstrap(scores, seed=2)


def test_bootstrap_takes_more_problems_than_fit_in_one_chunk():
    scores = np.tile([0.0, 1.0], 10_000)
    estimate = bootstrap(scores)
    assert (estimate.low, estimate.high) == pytest.approx(
        (0.5 - 1.96 * 0.5 / 20000**0.5, 0.5 + 1.96 * 0.5 / 20000**0.5), abs=3e-4
    )


@pytest.mark.parametrize("scores", [[], [[0.5]], [0.5, math.nan]])
def test_bootstrap_refuses_what_is_no_list_of_scores(scores):
    with pytest.raises(ValueError, match="finite score"):
        bootstrap(scores)


def test_paired_bootstrap_sees_what_pairing_reveals():
    rng = np.random.default_rng(5)
    difficulty = rng.random(300)
    better = difficulty + 0.02 + rng.normal(0, 0.05, 300)
    paired = paired_bootstrap(difficulty, better)
    assert paired.low > 0 and paired.p_value < 0.001
    assert paired.value == pytest.approx(float(np.mean(better) - np.mean(difficulty)))
    # The same means, unpaired, tell nothing: their intervals overlap.
    assert bootstrap(difficulty).high > bootstrap(better).low


def test_paired_bootstrap_p_value_agrees_with_the_t_test():
    rng = np.random.default_rng(6)
    baseline, candidate = rng.random(200), rng.random(200) + 0.04
    assert paired_bootstrap(baseline, candidate).p_value == pytest.approx(
        stats.ttest_rel(candidate, baseline).pvalue, abs=0.02
    )


def test_paired_bootstrap_p_value_agrees_with_enumeration():
    differences = np.array([0.5, 0.25, -0.25])
    means = np.array([np.mean(sample) for sample in itertools.product(differences, repeat=3)])
    observed = differences.mean()
    exact = np.mean(np.abs(means - observed) >= observed - 1e-12)
    assert paired_bootstrap(np.zeros(3), differences).p_value == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize(("differing", "at_least"), [(1, 1.0), (3, 0.25), (5, 0.0625), (8, 1 / 128)])
def test_a_handful_of_problems_that_agree_proves_little(differing, at_least):
    """All of n differences on one side: 2 of the 2^n ways of tossing their signs are as far out."""
    baseline = np.full(differing + 4, 0.5)
    better = baseline + 0.125 * (np.arange(differing + 4) < differing)
    assert paired_bootstrap(baseline, better).p_value >= at_least
    assert paired_bootstrap(baseline[:differing], better[:differing]).p_value == pytest.approx(at_least)


def test_equal_models_do_not_differ():
    scores = [0.0, 0.5, 1.0]
    difference = paired_bootstrap(scores, scores)
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_models_mirrors_the_difference():
    rng = np.random.default_rng(7)
    a, b = rng.random(40), rng.random(40)
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_paired_bootstrap_refuses_different_problems():
    with pytest.raises(ValueError, match="3 and 2"):
        paired_bootstrap([0, 1, 0], [0, 1])
