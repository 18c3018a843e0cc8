"""Who gets the credit: what a loss makes of tokens by their role in the response, from the records of the rollouts.

A study names roles by regular expressions over a prompt and, on the next line, a response, special tokens included.
Tokens that touch a match, or its group `role` where it has one, have the role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fipo.run.run import Run

FIELDS = {
    "tokens": "tokens that were learned from",
    "right": "share of them in responses with A > 0",
    "wrong": "share of them in responses with A < 0",
    "weight_right": "mean f where A > 0",
    "weight_wrong": "mean f where A < 0",
    "advantage": "mean A: what DAPO pushes such a token by",
    "weighted": "mean A f: what FIPO pushes it by",
}
"""Of each role in each step; NaN where no token counts."""
COLUMNS = ("prompt", "response", "token_characters", "advantage", "influence_weights", "update")

Credits = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""[steps] each, by role and by the names of `FIELDS`."""


def credits_of(run: Run, roles: Mapping[str, str]) -> Credits:
    """Of all responses that the run has learned from."""
    patterns = {name: re.compile(pattern) for name, pattern in roles.items()}
    lineage, steps = run.trained_steps()
    records = run.rollout_records()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in roles}
    for step in steps:
        rows = records.read(lineage, step, COLUMNS).to_pylist()
        learned = [row for row in rows if row["update"] is not None]
        for name, pattern in patterns.items():
            found[name].append(credit_of(learned, pattern))
    return {
        name: {field: np.array([step[field] for step in credit]) for field in FIELDS} for name, credit in found.items()
    }


def over_steps(credit: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """The fields over all tokens of all steps; `tokens` is their number."""
    counts = {f"weight_{side}": credit["tokens"] * credit[side] for side in ("right", "wrong")}
    means = {
        field: _weighted_mean(credit[field], counts.get(field, credit["tokens"]))
        for field in FIELDS
        if field != "tokens"
    }
    return {"tokens": float(credit["tokens"].sum()), **means}


def tokens_in_role(prompt: str, response: str, characters: Sequence[int], pattern: re.Pattern[str]) -> Iterator[int]:
    """Places of the response's tokens that have the role; `characters` are the lengths of their texts."""
    group = "role" if "role" in pattern.groupindex else 0
    spans = sorted(match.span(group) for match in pattern.finditer(f"{prompt}\n{response}"))
    ends = accumulate(characters, initial=len(prompt) + 1)
    following = 0  # the first that ends behind the token: those before it are passed for good
    for index, (start, end) in enumerate(pairwise(ends)):
        while following < len(spans) and spans[following][1] <= start:
            following += 1
        if following < len(spans) and spans[following][0] < end and start < spans[following][1]:
            yield index


def credit_of(rows: Sequence[Mapping[str, Any]], pattern: re.Pattern[str]) -> dict[str, float]:
    """`FIELDS` of one role in one step, from the rows of its record that were learned from."""
    seen = [
        (row["influence_weights"][index], row["advantage"])
        for row in rows
        for index in tokens_in_role(row["prompt"], row["response"], row["token_characters"], pattern)
        if row["influence_weights"][index] == row["influence_weights"][index]  # an observation's is NaN
    ]
    weights, advantages = np.array(seen, np.float64).reshape(-1, 2).T
    return {
        "tokens": float(len(seen)),
        "right": _mean(advantages > 0),
        "wrong": _mean(advantages < 0),
        "weight_right": _mean(weights[advantages > 0]),
        "weight_wrong": _mean(weights[advantages < 0]),
        "advantage": _mean(advantages),
        "weighted": _mean(advantages * weights),
    }


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _weighted_mean(values: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    there = np.isfinite(values) & (counts > 0)
    return float(np.average(values[there], weights=counts[there])) if there.any() else float("nan")
