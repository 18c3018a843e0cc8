"""What a report takes from the files that a run leaves: single responses, rows that were set aside, warnings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fipo.data.manifest import Manifest
from fipo.evaluation.results import GradedResponse, ProblemResult
from fipo.findings import excerpt
from fipo.report.data import Comparison, Said, SameProblem, SetAside, TokenInfluence

SHOWN_PROBLEMS = 3
SHOWN_CHARACTERS = 1500
"""Of a response; what is left out is its middle."""
SHOWN_ROWS = 5
"""Of those that were set aside."""
SHOWN_WARNINGS = 8
TAIL_BYTES = 1 << 23
"""Of a file of which the newest line is wanted."""
WARNING = "warning: "


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A file of JSON lines; empty where there is none. A line that is being written is left for later."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def newest_answers(folder: Path) -> tuple[list[SameProblem], str]:
    """The newest answers of the policy to problems beside the warmed-up model's, and whose they are.

    Without held-out problems they are the newest that were sampled, beside nothing.
    """
    rows = rows_of(folder / "answers.jsonl") or rows_of(folder / "samples.jsonl")
    if not rows:
        return [], ""
    step = rows[-1]["step"]
    before = {row["problem"]: _said(row) for row in rows if row["step"] == 0} if step else {}
    newest = [row for row in rows if row["step"] == step]
    same = [SameProblem(row["problem"], row["answer"], before.get(row["problem"]), _said(row)) for row in newest]
    return same[:SHOWN_PROBLEMS], f"RL step {step}" if step else "the warmed-up model"


def told_apart(comparison: Comparison) -> list[SameProblem]:
    """Three problems of a benchmark with both models' first answers: of all changes the best, the middle, the worst."""
    change = comparison.candidate.by_problem("avg_at_k") - comparison.baseline.by_problem("avg_at_k")
    order = np.argsort(-change, kind="stable").tolist()
    chosen = dict.fromkeys([order[0], order[len(order) // 2], order[-1]])
    return [_same(comparison.baseline.problems[index], comparison.candidate.problems[index]) for index in chosen]


def most_telling(path: Path) -> TokenInfluence | None:
    """The recorded response with the most weights that look different; clipped ones look all the same."""
    samples = [sample for sample in rows_of(path) if sample["tokens"]]
    return _influence(max(samples, key=_variety)) if samples else None


def newest_influence(path: Path) -> TokenInfluence | None:
    """The response that was recorded last, of a file that may be long by now."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        *_, newest = [b"", *(line for line in file if line.startswith(b"{") and line.endswith(b"}\n"))]
    return _influence(json.loads(newest)) if newest and json.loads(newest)["tokens"] else None


def set_aside(dataset: Path) -> SetAside:
    """What preparation left out of a data set, with a few broken rows."""
    counts: Counter[str] = Counter()
    for tally in Manifest.read(dataset).sources:
        counts.update(tally.quarantined)
        counts.update(tally.removed)
    with (dataset / "quarantine.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, SHOWN_ROWS)]
    examples = [
        {
            "where": f"{row['source']}, line {row['line']}",
            "reason": row["detail"] or row["reason"],
            "excerpt": row["excerpt"],
        }
        for row in rows
    ]
    return SetAside(dict(counts.most_common()), examples)


def warnings_in(said: Sequence[str]) -> list[str]:
    """The newest warnings among what a step said; one that came many times, with other numbers, once."""
    kinds: dict[str, tuple[str, int]] = {}
    for line in said:
        if line.startswith(WARNING):
            text = line.removeprefix(WARNING)
            kind = "".join(letter for letter in text if not letter.isdigit())
            kinds[kind] = (text, kinds.pop(kind, ("", 0))[1] + 1)
    newest = list(kinds.values())[-SHOWN_WARNINGS:]
    return [text if count == 1 else f"{text} (the newest of {count})" for text, count in newest]


def _same(before: ProblemResult, after: ProblemResult) -> SameProblem:
    return SameProblem(after.problem, after.answer, _graded(before.responses[0]), _graded(after.responses[0]))


def _graded(response: GradedResponse) -> Said:
    outcome = "truncated" if response.truncated and not response.correct else str(response.outcome)
    return Said(excerpt(response.text, SHOWN_CHARACTERS), outcome, response.tokens)


def _said(row: dict[str, Any]) -> Said:
    truncated = row["finish_reason"] == "length" and row["outcome"] != "correct"
    return Said(excerpt(row["response"], SHOWN_CHARACTERS), "truncated" if truncated else row["outcome"], row["tokens"])


def _influence(sample: dict[str, Any]) -> TokenInfluence:
    return TokenInfluence(
        step=sample["step"],
        prompt=sample["prompt"],
        tokens=tuple(sample["tokens"]),
        influence_weights=tuple(sample["influence_weights"]),
        log_ratios=tuple(sample["log_ratio"]),
        advantage=sample["advantage"],
    )


def _variety(sample: dict[str, Any]) -> tuple[int, float]:
    weights = np.array(sample["influence_weights"])
    return np.unique(np.round(weights, 2)).size, float(weights.std() * weights.size)
