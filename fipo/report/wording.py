"""How the report and the terminal put numbers into words."""

from __future__ import annotations

from fipo.evaluation.estimators import Difference
from fipo.records import Estimate, Scores
from fipo.report.data import ReportData
from fipo.run.stages import WHOLE

MEANINGS = {
    "avg_at_k": ("avg@{k}", "correct responses"),
    "cons_at_k": ("cons@{k}", "problems whose most frequent answer is correct"),
    "pass_at_k": ("pass@{k}", "problems with at least one correct response"),
}
"""Name and meaning of each score."""


def headline(data: ReportData) -> str:
    """The result on the first benchmark in one sentence; of a run that has none yet, what it does now."""
    return _result(data) if data.benchmarks else _doing(data)


def _doing(data: ReportData) -> str:
    name, stage = (data.live and data.live.now) or ("", None)
    if not (data.live and stage):
        return "Nothing has begun yet."
    what = DOING[name]
    if stage.state in ("failed", "stopped"):
        return f"{what.capitalize()} has {stage.state}."
    if stage.state == "done":
        then = next((DOING[step] for step, later in data.live.stages.items() if not later), "nothing")
        return f"{what.capitalize()} is done; {then} comes next."
    whole = data.live.paces.get(WHOLE)
    if not whole:
        return f"{what.capitalize()} …"
    left = whole.left_at(data.live.at)
    return f"{what.capitalize()}: step {whole.done:,} of {whole.total:,}" + (
        f", {duration(left)} left." if left is not None else "."
    )


def _result(data: ReportData) -> str:
    first = data.benchmarks[0]
    before, after = first.baseline.scores(), first.candidate.scores()
    scores = percent(before.avg_at_k.value), percent(after.avg_at_k.value)
    verdict = {
        "better": f"raised accuracy on {first.name} from\N{NO-BREAK SPACE}{scores[0]} to\N{NO-BREAK SPACE}{scores[1]}",
        "worse": f"lowered accuracy on {first.name} from\N{NO-BREAK SPACE}{scores[0]} to\N{NO-BREAK SPACE}{scores[1]}",
        "": f"left accuracy on {first.name} about where it was ({scores[0]} before, {scores[1]} after)",
    }[mood(first.differences["avg_at_k"])]
    lengths = f"from {before.mean_response_tokens:,.1f} to {after.mean_response_tokens:,.1f} tokens"
    return f"{data.loss.upper()} {verdict}; the mean response went {lengths}."


DOING = {
    "prepare": "preparing the problems",
    "sft": "the warm-up",
    "train": "training",
    "evaluate": "asking the benchmarks",
    "gate": "the gate",
    "register": "registering the model",
    "report": "writing the report",
    "score": "asking the benchmarks",
}
"""What each step does, in words for people."""


def mood(difference: Difference) -> str:
    """`better` or `worse` where both the interval and the p-value say so at 95%, else empty."""
    if difference.p_value >= 0.05 or difference.low <= 0.0 <= difference.high:
        return ""
    return "better" if difference.value > 0 else "worse"


def percent(share: float) -> str:
    """0.4712 is `47.1%`, 1.0 is `100%`."""
    return f"{_hundredths(share)}%"


def interval(estimate: Estimate | Difference) -> str:
    """`[45.0, 49.2]`, in percent."""
    return f"[{_hundredths(estimate.low)}, {_hundredths(estimate.high)}]"


def points(difference: Difference) -> str:
    """`+52.1 [49.0, 55.3]`, in percentage points."""
    return f"{change(difference)} {interval(difference)}"


def change(difference: Difference) -> str:
    """`+52.1`, in percentage points."""
    return f"{100 * difference.value:+.1f}"


def p_value(difference: Difference) -> str:
    """`< 0.001` where it is."""
    return "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"


def tokens(mean: float) -> str:
    """`7.4 tokens`, `10,312 tokens`."""
    return f"{count(mean)} tokens"


def count(mean: float) -> str:
    """`7.4`, `10,312`."""
    return f"{mean:,.0f}" if mean >= 1000 else f"{mean:,.1f}"


def growth(before: Scores, after: Scores) -> str:
    """`× 1.57`: how the mean response length has changed."""
    return f"× {after.mean_response_tokens / before.mean_response_tokens:.2f}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _hundredths(share: float) -> str:
    return f"{100 * share:.1f}".replace("100.0", "100")
