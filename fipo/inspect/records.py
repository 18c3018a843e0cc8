"""Steps, groups and responses, from the records in a run's store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fipo.inspect.colours import QUANTITIES
from fipo.run.rollouts import Rollouts

SUMMARY = (
    "prompt_id", "draw", "source", "problem", "answer", "response_index", "finish_reason", "outcome", "reward",
    "advantage", "response_tokens", "update",
)  # fmt: skip
"""Columns of a step that lists read."""
WHOLE = (
    *SUMMARY, "accuracy", "explanation", "reward_components", "weight_version", "environment", "grader", "prompt",
    "response", "token_characters", "token_ids", "rollout_log_probs", "response_mask", "influence_weights",
    "future_kl", "log_ratio", "entropy", "mismatch",
)  # fmt: skip
"""Columns of a response that its page reads."""


@dataclass(frozen=True, slots=True)
class Brief:
    """A response in a list."""

    index: int
    """Among its siblings."""
    row: int
    """In the step's file."""
    outcome: str
    truncated: bool
    tokens: int
    reward: float
    advantage: float | None
    update: int | None
    """Which update of the step learned from it; None where none did, or an older record does not say."""


@dataclass(frozen=True, slots=True)
class Group:
    """The responses to one draw of a prompt."""

    key: str
    """Of addresses: the beginning of the prompt's id and the draw."""
    step: int
    problem: str
    answer: str
    source: str
    responses: tuple[Brief, ...]

    @property
    def correct(self) -> int:
        """Responses that are right."""
        return sum(one.outcome == "correct" for one in self.responses)

    @property
    def learned(self) -> bool:
        """Whether training learned from any of them."""
        return any(one.advantage is not None for one in self.responses)


@dataclass(frozen=True, slots=True)
class Search:
    """Which responses are sought; what is empty does not matter."""

    outcome: str = ""
    """One of `fipo.outcome.Outcome`, or `truncated`."""
    at_least: int | None = None
    """Tokens."""
    at_most: int | None = None
    """Tokens."""

    def __bool__(self) -> bool:
        return bool(self.outcome) or self.at_least is not None or self.at_most is not None

    def finds(self, one: Brief) -> bool:
        """Whether the response is sought."""
        outcome = one.truncated if self.outcome == "truncated" else self.outcome in ("", one.outcome)
        return outcome and (self.at_least or 0) <= one.tokens and (self.at_most is None or one.tokens <= self.at_most)


class Response:
    """One response, token by token."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row
        self.index: int = row["response_index"]
        self.token_ids: list[int] = row["token_ids"]

    @cached_property
    def tokens(self) -> list[str]:
        """The text of each token; of an older record, which has none, its number."""
        text, lengths = self.row["response"], self.row["token_characters"]
        if text is None or lengths is None or sum(lengths) != len(text):
            return [f"[{one}] " for one in self.token_ids]
        ends = np.cumsum([0, *lengths]).tolist()
        return [text[start:end] for start, end in pairwise(ends)]

    @property
    def has_text(self) -> bool:
        """Whether the record holds it."""
        return self.row["response"] is not None

    @property
    def observed(self) -> list[bool]:
        """Which tokens are an environment's, not the model's."""
        mask = self.row["response_mask"]
        return [not own for own in mask] if mask else [False] * len(self.token_ids)

    def values(self, quantity: str) -> NDArray[np.float32]:
        """Of each token; NaN where it is not known, or the token is an environment's."""
        column = {"f": "influence_weights", "surprise": "rollout_log_probs"}.get(quantity, quantity)
        found = self.row[column]
        if found is None:
            return np.full(len(self.token_ids), np.nan, np.float32)
        values = np.broadcast_to(np.asarray(found, np.float32), len(self.token_ids))
        if quantity == "surprise":
            values = -values
        return np.where(self.observed, np.float32(np.nan), values)

    @property
    def known(self) -> list[str]:
        """Quantities that the record has of it."""
        return [key for key in QUANTITIES if not np.isnan(self.values(key)).all()]


def parting(first: Response, second: Response) -> int:
    """How many tokens two responses begin with in common."""
    pairs = zip(first.token_ids, second.token_ids)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def groups_of(rollouts: Rollouts, lineage: str, step: int) -> list[Group]:
    """The groups of a step, in the order in which they were drawn."""
    found: dict[tuple[str, int], list[tuple[int, dict[str, Any]]]] = {}
    for at, row in enumerate(rollouts.read(lineage, step, SUMMARY).to_pylist()):
        found.setdefault((row["prompt_id"], row["draw"]), []).append((at, row))
    return [
        Group(
            key=f"{prompt_id[:12]}-{draw}",
            step=step,
            problem=rows[0][1]["problem"],
            answer=rows[0][1]["answer"],
            source=rows[0][1]["source"],
            responses=tuple(
                Brief(
                    row["response_index"],
                    at,
                    row["outcome"],
                    row["finish_reason"] == "length",
                    row["response_tokens"],
                    row["reward"],
                    row["advantage"],
                    row["update"],
                )
                for at, row in rows
            ),
        )
        for (prompt_id, draw), rows in found.items()
    ]


def search(rollouts: Rollouts, lineage: str, steps: Sequence[int], wanted: Search) -> Iterator[Group]:
    """Groups with a response that is sought, the newest step first."""
    for step in sorted(steps, reverse=True):
        yield from (group for group in groups_of(rollouts, lineage, step) if any(map(wanted.finds, group.responses)))


def responses_of(rollouts: Rollouts, lineage: str, group: Group, indices: Sequence[int]) -> list[Response]:
    """Responses of a group, by their indices among the siblings, in this order."""
    rows = [one.row for one in group.responses if one.index in indices]
    found = {one.index: one for one in map(Response, rollouts.read_rows(lineage, group.step, rows, WHOLE).to_pylist())}
    return [found[index] for index in indices]
