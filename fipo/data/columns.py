"""Which columns of a data set are read, and which one was meant where there is none of a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from fipo.config import Source
from fipo.config.data import TEST_COLUMNS

DAPO_ANSWER = "reward_model.ground_truth"
"""Where DAPO-Math-17k and other data sets of verl's layout keep the answer."""

OWN_NAMES = ("source", "data_source")
"""Where a row may name its origin."""

USUAL = {
    "prompt": ("prompt", "problem", "question", "query", "instruction", "input", "task", "text"),
    "answer": ("answer", "final_answer", "target", "label", "expected_answer", "ground_truth", "solution", "output"),
    "response": ("response", "solution", "completion", "demonstration", "rationale", "explanation", "output"),
}
"""What data sets call the columns, the commonest first."""


def columns_read(source: Source) -> frozenset[str]:
    """Every column that preparation may look at; dots reach into structs."""
    names = {source.prompt_column, source.answer_column, source.response_column, DAPO_ANSWER}
    return frozenset(names.union(OWN_NAMES, source.columns, TEST_COLUMNS if source.grader == "tests" else ()))


def present(found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Of the columns that there are, those that are wanted, whole structs of which a field is."""
    tops = {name.partition(".")[0] for name in wanted}.union(wanted)
    return [name for name in found if name in tops]


def lookup(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column; dots reach into structs. None when there is none."""
    if column in record:
        return record[column]
    value: Any = record
    for part in column.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def meant(column: str, found: Iterable[str]) -> str:
    """The column that is probably meant by a name that is not there; empty where none is like it."""
    names = {name.casefold(): name for name in found}
    if close := difflib.get_close_matches(column.casefold(), names, n=1, cutoff=0.7):
        return names[close[0]]
    kind = next((usual for usual in USUAL.values() if column in usual), ())
    return next((names[name] for name in kind if name in names), "")


def no_column(column: str, found: Iterable[str]) -> str:
    """For messages: which column is missing, which ones there are, and which one may be meant."""
    names = list(dict.fromkeys(found))
    guess = meant(column, names)
    return f"no column {column!r}; there are {', '.join(names) or 'none'}" + (
        f"; did you mean {guess!r}?" if guess else ""
    )
