"""Rules as data: what they compare, and what they say."""

from dataclasses import asdict

import pytest

from fipo.config import Gate, GateRule
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.outcome import Outcome
from fipo.records import Decision
from fipo.release.gate import decide
from fipo.run.result import DamagedResult, StepResult

KEEPS = GateRule(rule="keeps", by=0.02)
IMPROVES = GateRule(rule="improves")


def result(correct, k=10, name="aime", problems=20):
    """`correct` of k responses are right, of each problem or of the problem with this index."""

    def problem(index):
        right = correct if isinstance(correct, int) else correct[index]
        outcomes = [Outcome.CORRECT] * right + [Outcome.WRONG] * (k - right)
        responses = tuple(GradedResponse("", str(n), outcome, 1, False, str(n)) for n, outcome in enumerate(outcomes))
        return ProblemResult(f"{name}-{index}", "", "1", responses)

    return BenchmarkResult(name, tuple(problem(index) for index in range(problems)))


def gate(candidate, champion, rules=(IMPROVES,), minimum=0.0, warmup=0):
    return decide(
        Gate(minimum=minimum, rules=rules),
        "aime",
        candidate={"aime": candidate},
        warmup={"aime": result(warmup)},
        champion=champion and {"aime": champion},
    )


def test_without_a_champion_the_minimum_decides():
    assert gate(result(9), None, minimum=0.9).passed
    low = gate(result(8), None, minimum=0.9)
    assert not low.passed
    assert low.reason == "avg_at_k on aime is 80%, below the minimum of 90%"
    assert not gate(result(8), result(5), minimum=0.9).passed, "beating the champion is not enough"


def test_the_first_champion_is_no_worse_than_the_model_before_rl():
    """The warm-up had 2 of 48 right, and RL lost them."""
    assert gate(result(5), None, warmup=5).passed
    fallen = gate(result(5), None, warmup=6)
    assert not fallen.passed
    assert fallen.reason == "avg_at_k on aime fell from 60% before RL to 50%"
    assert gate(result(7), result(6), warmup=8).passed, "with a champion, the champion is what must be beaten"


def test_nothing_right_is_no_champion_whatever_the_minimum():
    nothing = gate(result(0), None)
    assert not nothing.passed
    assert nothing.reason == "avg_at_k on aime is 0%, and a champion gets something right"
    assert gate(result([1] + [0] * 19), None).passed


def test_an_improvement_must_exceed_its_interval():
    assert gate(result(7), result(6)).passed, "each problem is better by 0.1"
    assert not gate(result(6), result(6)).passed
    # Half of the problems gain 0.3, half lose 0.2: 0.05 better on average, and that may be chance.
    noisy = gate(result([9 if index % 2 else 4 for index in range(20)]), result(6))
    assert not noisy.passed
    (_, check) = noisy.checks
    assert check.value - check.champion == pytest.approx(0.05)
    assert check.interval[0] < 0 < check.interval[1]
    assert "does not improve on the champion's 60% beyond the interval: +5.00 points [" in noisy.reason


def test_what_is_kept_is_judged_by_the_fall_and_not_by_the_end_of_its_interval():
    """Half of the problems gain 0.3, half lose 0.38: 0.04 worse on average, and the interval reaches far below."""
    noisy = result([9 if index % 2 else 2 for index in range(20)])  # 0.55 on average
    ((_, check),) = (gate(noisy, result(6), (GateRule(rule="keeps", by=0.06),)).checks,)
    assert check.interval[0] < -0.06
    assert check.passed
    assert not gate(noisy, result(6), (GateRule(rule="keeps", by=0.04),)).passed


def test_a_model_that_passes_says_what_it_is_better_at():
    better = "avg_at_k on aime is 70% and improves on the champion's 60%: +10.00 points [+10.00, +10.00]"
    keeps = GateRule(rule="keeps", by=0.1)
    assert gate(result(7), result(6), (keeps, IMPROVES, keeps), minimum=0.5).reason == better
    assert gate(result(7), result(6), (keeps,), minimum=0.5).reason == "avg_at_k on aime is 70%, at least 50%", (
        "nothing to beat"
    )
    assert (
        gate(result(7), None, minimum=0.5).reason
        == "avg_at_k on aime is 70%, at least 50%, not below the 0% before RL, and there is no champion to beat"
    )


def test_a_handful_of_problems_makes_no_champion():
    decision = gate(result(7, problems=3), result(6, problems=3), (IMPROVES,))
    assert not decision.passed
    assert "is above the champion's 60%, and too few problems differ to tell (p 0.25): +10.00 points" in decision.reason
    assert gate(result(7, problems=6), result(6, problems=6), (IMPROVES,)).passed


def test_a_rule_may_ask_for_more():
    ten_points = (GateRule(rule="improves", by=0.1),)
    assert not gate(result(7), result(6), ten_points).passed
    assert gate(result(8), result(6), ten_points).passed


def test_no_benchmark_may_fall_by_more_than_is_allowed():
    better, worse = result(8), result(5, name="math")
    champion = {"aime": result(6), "math": result(6, name="math")}
    decision = decide(
        Gate(rules=(IMPROVES, KEEPS)), "aime", candidate={"aime": better, "math": worse}, warmup={}, champion=champion
    )
    assert [(check.rule, check.benchmark, check.passed) for check in decision.checks] == [
        ("minimum", "aime", True), ("improves", "aime", True), ("keeps", "aime", True), ("keeps", "math", False),
    ]  # fmt: skip
    assert not decision.passed
    assert decision.reason.startswith("avg_at_k on math is 50% and falls from the champion's 60% by more than 2 points")
    lenient = (IMPROVES, GateRule(rule="keeps", by=0.1))
    assert decide(
        Gate(rules=lenient), "aime", candidate={"aime": better, "math": worse}, warmup={}, champion=champion
    ).passed


@pytest.mark.parametrize("champion", [result(1, k=8), result(1, problems=19), result(1, name="other")])
def test_a_champion_measured_otherwise_cannot_be_beaten_unseen(champion):
    decision = gate(result(9), champion, (IMPROVES, KEEPS))
    assert not decision.passed
    assert decision.champion is None
    assert "has not answered the same problems as often" in decision.reason
    assert [check.rule for check in decision.checks] == ["minimum", "improves"], "nothing to keep"


def test_a_decision_survives_being_stored():
    decision = gate(result(7), result(6), (IMPROVES, KEEPS))
    stored = StepResult("gate", "f" * 64, 1.0, record=asdict(decision)).to_json("file:///runs/demo")
    assert StepResult.from_json(stored, "file:///runs/demo").read(Decision) == decision
    assert decision.champion == pytest.approx(0.6)


def test_a_record_of_another_kind_is_no_decision():
    for record in ({}, {"passed": True, "reason": 3}, asdict(gate(result(7), None, ())) | {"value": "much"}):
        with pytest.raises(DamagedResult, match="gate: not the record of this step"):
            StepResult("gate", "f" * 64, 1.0, record=record).read(Decision)
