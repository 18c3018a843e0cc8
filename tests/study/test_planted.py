"""From a pilot to verdicts, on results that were made up: an arm with an effect, one without, one that is worse."""

import numpy as np
import pytest

from fipo.study.comparisons import needs, verdicts
from fipo.study.results import CURVES, SCORES, Result
from fipo.study.study import Outcome, Study

EFFECT = 0.02
OUTCOME = Outcome(score="avg_at_k", smallest_effect=EFFECT)


def study(seeds):
    arms: dict[str, tuple[str, ...]] = dict.fromkeys(("dapo", "better", "same", "worse"), ())
    return Study(name="planted", tasks={"t": {"recipe": "demo"}}, arms=arms, baseline="dapo", seeds=seeds)


def results(of, draw):
    """Accuracy with a part that a seed's arms share, which pairing takes out, and a part of each arm's own."""
    shared = {seed: draw.normal(0.5, 0.1) for seed in of.seeds}
    effects = {"better": EFFECT, "worse": -2 * EFFECT}
    for trial in of.trials():
        accuracy = shared[trial.seed] + draw.normal(effects.get(trial.arm, 0.0), 0.012)
        curves = dict.fromkeys(CURVES, np.full(2, accuracy))
        yield Result(trial, dict.fromkeys(SCORES, accuracy), np.array([1.0, 2.0]), curves)


@pytest.mark.parametrize("luck", range(3))
def test_what_was_planted_is_found_with_the_seeds_that_the_plan_computes(luck):
    draw = np.random.default_rng(luck)
    pilot = study(range(100, 108))
    planned = needs(pilot, OUTCOME, list(results(pilot, draw)))
    assert {need.arm for need in planned} == {"better", "same", "worse"}
    seeds = max(need.seeds for need in planned)
    # Of the differences 0.012 * sqrt(2) = 0.017; 12 seeds by Bonferroni over three (0.05 / 3) at a power of 0.8.
    assert 6 <= seeds <= 30, "the pilot's spread is itself a guess"
    full = study(range(1, 1 + 2 * seeds))  # twice as many, so that luck does not decide the test
    words = {one.arm: one.word for one in verdicts(full, OUTCOME, list(results(full, draw)))}
    assert words == {"better": "higher", "same": "equivalent", "worse": "lower"}


def test_too_few_seeds_are_undecided_and_not_equal():
    few = study((1, 2, 3))
    words = {one.arm: one.word for one in verdicts(few, OUTCOME, list(results(few, np.random.default_rng(0))))}
    assert words["same"] == "undecided"


def test_there_is_no_word_before_the_last_seed_and_no_comparison_is_forgotten():
    """Whoever looks after each seed and stops at a word is wrong four times as often as the significance says."""
    full = study(range(1, 21))
    made = list(results(full, np.random.default_rng(1)))
    early = [result for result in made if result.trial.seed < 20]
    assert {one.word for one in verdicts(full, OUTCOME, early)} == {"unfinished"}
    alone = [result for result in made if result.trial.arm in ("dapo", "worse")]
    (seen,) = verdicts(full, OUTCOME, alone)
    (among_all,) = [one for one in verdicts(full, OUTCOME, made) if one.arm == "worse"]
    assert seen.word == "lower"
    assert seen.difference == among_all.difference, "its interval is as wide as three comparisons ask for"
    assert seen.p == among_all.p, "the smallest p of three is taken three times"
