"""Whether a trained model may become the champion: a minimum, and rules that compare it with the present one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fipo.config import Gate, GateRule
from fipo.evaluation.estimators import CONFIDENCE, Difference, paired_bootstrap
from fipo.evaluation.results import BenchmarkResult
from fipo.records import Check, Decision

Results = Mapping[str, BenchmarkResult]
"""By benchmark."""

_ROUNDING = 1e-9
"""Means of equal scores differ in their last bits."""


def decide(
    gate: Gate,
    benchmark: str,
    *,
    candidate: Results,
    warmup: Results,
    champion: Results | None,
    champion_version: str = "",
) -> Decision:
    """A model passes that reaches `gate.minimum`, with anything right at all, and, where there is a champion, meets
    every one of `gate.rules`; the first one must not be worse than the model that its training began with.

    Args:
        gate: the rules.
        benchmark: the one that `gate.minimum` and rules without a benchmark of their own are about.
        candidate: its answers to every benchmark.
        warmup: those of the model before RL.
        champion: the champion's; a benchmark is compared where both answered the same problems equally often. None
            without a champion.
        champion_version: for the record.
    """
    checks = [_minimum(gate, benchmark, candidate[benchmark])]
    if champion is None:
        checks.append(_kept(gate, benchmark, candidate[benchmark], warmup[benchmark]))
    else:
        for rule in gate.rules:
            checks += _apply(rule, benchmark, candidate, champion)
    failed = [check.reason for check in checks if not check.passed]
    if champion is None:
        checks_passed = f"{checks[0].reason}, {checks[1].reason}, and there is no champion to beat"
    else:
        checks_passed = "; ".join(check.reason for check in checks[1:] if check.rule == "improves") or checks[0].reason
    value = checks[0].value
    known = champion and _comparable(candidate, champion, benchmark)
    return Decision(
        passed=not failed,
        metric=gate.metric,
        benchmark=benchmark,
        value=value,
        minimum=gate.minimum,
        champion=_mean(champion[benchmark], gate.metric) if champion and known else None,
        reason="; ".join(failed) or checks_passed,
        checks=tuple(checks),
        champion_version=champion_version,
    )


def _minimum(gate: Gate, benchmark: str, result: BenchmarkResult) -> Check:
    value = _mean(result, gate.metric)
    passed = value >= gate.minimum - _ROUNDING and value > 0
    words = f"{'at least' if passed else 'below the minimum of'} {_percent(gate.minimum)}"
    if value == 0:
        words = "and a champion gets something right"
    reason = f"{gate.metric} on {benchmark} is {_percent(value)}, {words}"
    return Check("minimum", benchmark, gate.metric, passed, value, gate.minimum, None, None, reason)


def _kept(gate: Gate, benchmark: str, result: BenchmarkResult, warmup: BenchmarkResult) -> Check:
    """What RL has made of the model that it began with, where no champion has shown what to beat."""
    value, before = _mean(result, gate.metric), _mean(warmup, gate.metric)
    passed = value >= before - _ROUNDING
    reason = f"not below the {_percent(before)} before RL"
    if not passed:
        reason = f"{gate.metric} on {benchmark} fell from {_percent(before)} before RL to {_percent(value)}"
    return Check("warmup", benchmark, gate.metric, passed, value, 0.0, None, None, reason)


def _apply(rule: GateRule, benchmark: str, candidate: Results, champion: Results) -> Iterator[Check]:
    if rule.rule == "improves":
        yield _compare(rule, rule.benchmark or benchmark, candidate, champion)
        return
    # A benchmark that the champion has not answered has no score to keep, unless the rule names it.
    for name in [rule.benchmark] if rule.benchmark else candidate:
        if rule.benchmark or _comparable(candidate, champion, name):
            yield _compare(rule, name, candidate, champion)


def _compare(rule: GateRule, benchmark: str, candidate: Results, champion: Results) -> Check:
    value, metric = _mean(candidate[benchmark], rule.metric), rule.metric
    score = f"{metric} on {benchmark} is {_percent(value)}"
    if not _comparable(candidate, champion, benchmark):
        reason = f"{score}, and the champion has not answered the same problems as often: make one champion by hand"
        return Check(rule.rule, benchmark, metric, False, value, rule.by, None, None, reason)
    theirs = _mean(champion[benchmark], metric)
    change = paired_bootstrap(champion[benchmark].by_problem(metric), candidate[benchmark].by_problem(metric))
    passed, words = _verdict(rule, change, theirs)
    interval = (change.low, change.high)
    return Check(rule.rule, benchmark, metric, passed, value, rule.by, theirs, interval, f"{score} and {words}")


def _verdict(rule: GateRule, change: Difference, champion: float) -> tuple[bool, str]:
    interval = f"{100 * change.value:+.2f} points [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
    more = f" by more than {100 * rule.by:g} points" if rule.by else ""
    theirs = _percent(champion)
    if rule.rule == "improves":
        beyond = change.low > rule.by + _ROUNDING
        if beyond and change.p_value < 1 - CONFIDENCE:
            return True, f"improves on the champion's {theirs}{more}: {interval}"
        if beyond:  # a handful of problems that agree has an interval of hardly any width
            few = f"too few problems differ to tell (p {change.p_value:.2g})"
            return False, f"is above the champion's {theirs}{more}, and {few}: {interval}"
        return False, f"does not improve on the champion's {theirs}{more} beyond the interval: {interval}"
    if change.value >= -rule.by - _ROUNDING:
        return True, f"does not fall from the champion's {theirs}{more}: {interval}"
    return False, f"falls from the champion's {theirs}{more}: {interval}"


def _comparable(candidate: Results, champion: Results, benchmark: str) -> bool:
    if benchmark not in champion:
        return False
    ours, theirs = candidate[benchmark], champion[benchmark]
    return ours.k == theirs.k and [one.id for one in ours.problems] == [one.id for one in theirs.problems]


def _mean(result: BenchmarkResult, metric: str) -> float:
    return float(result.by_problem(metric).mean())


def _percent(share: float) -> str:
    """0.02083 is `2.08%`, 0.5 is `50%`."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"
