"""The simulated rollout phase, against what can be counted by hand: one token takes one second."""

import pytest

from fipo.planning.queueing import Fleet, Rates, log_normal_lengths

ONE = Rates(step_seconds=1.0, context_seconds=0.0, slots=1, prefill_seconds=0.0)
FOUR = [[1], [9], [1], [1]]


def fleet(engines=2, rates=ONE, lengths=FOUR, **how):
    return Fleet(rates, engines, lengths, prompt_tokens=0, **{"stealing": True, **how})


def test_prompts_that_are_dealt_out_wait_for_the_longest():
    """One engine has 1 and 1, the other 9 and 1: 10 seconds, of 20 in all 8 without work."""
    phase = fleet(stealing=False).generate(4)
    assert (phase.seconds, phase.idle, phase.stale) == (10.0, pytest.approx(0.4), 0.0)


def test_from_one_queue_the_other_engine_takes_what_is_left():
    """One has 1, 1 and 1, the other 9: of 18 seconds 6 without work."""
    phase = fleet().generate(4)
    assert (phase.seconds, phase.idle) == (9.0, pytest.approx(1 / 3))


def test_what_is_not_done_is_carried_over_and_finishes_in_its_time():
    """Three of four are done at 3 seconds; the fourth ends 6 seconds later, the only one of two versions."""
    both = fleet(max_staleness=1)
    first, second = both.generate(3), both.generate(3)
    assert (first.seconds, first.stale) == (3.0, 0.0)
    # The other engine answers 1 after 1 second and has begun the next 9: the step waits for the one carried over, and
    # for a third answer, the 1 that follows it.
    assert second.seconds == 7.0 and second.stale == pytest.approx(1 / 3)


def test_a_response_that_may_not_grow_older_is_waited_for():
    long = fleet(lengths=[[1], [50], [1], [1]], max_staleness=1)
    assert long.generate(3).seconds == 3.0
    assert long.generate(3).seconds == 48.0, "47 left of 50, and 1 for the third answer"


def test_a_step_reads_weights_once_and_every_context():
    """Two responses of 3 tokens to a prompt of 10, at once: 3 steps of 2 seconds, and 20 + 22 + 24 tokens read."""
    rates = Rates(step_seconds=2.0, context_seconds=0.5, slots=2, prefill_seconds=0.0)
    phase = Fleet(rates, 1, [[3, 3]], prompt_tokens=10, stealing=True).generate(1)
    assert phase.seconds == 3 * 2.0 + 66 * 0.5
    assert phase.empty == 0.0


def test_going_on_costs_the_context_again():
    """After 3 seconds the long one has 3 tokens of 9: at 2 seconds a token 6 more, then its 6 that are left."""
    rates = Rates(step_seconds=1.0, context_seconds=0.0, slots=1, prefill_seconds=2.0)
    both = fleet(rates=rates, max_staleness=1)
    assert [both.generate(3).seconds for _ in range(2)] == [3.0, 12.0]


def test_lengths_are_those_that_were_asked_for():
    lengths = [one for group in log_normal_lengths(400, 8, mean=500, sigma=0.5, longest=2000, seed=0) for one in group]
    assert sum(lengths) / len(lengths) == pytest.approx(500, rel=0.05)
    assert max(lengths) <= 2000
    assert lengths == [n for g in log_normal_lengths(400, 8, mean=500, sigma=0.5, longest=2000, seed=0) for n in g]
