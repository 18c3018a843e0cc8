"""Which columns of a data set are read, what a prompt of several holds, and which one was meant where there is none of
a name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from string import ascii_uppercase
from typing import Any

from fipo.config import Source
from fipo.config.data import TEST_COLUMNS

DAPO_ANSWER = "reward_model.ground_truth"
"""Where DAPO-Math-17k and other data sets of verl's layout keep the answer."""

OWN_NAMES = ("source", "data_source")
"""Where a row may name its origin."""

_BRACED = re.compile(r"\{([^{}]+)\}")

USUAL = {
    "prompt": (
        *("prompt", "problem", "question", "question_content", "query", "instruction", "input", "task", "text", "stem"),
    ),
    "answer": (
        *("answer", "final_answer", "target", "label", "expected_answer", "ground_truth"),
        *("answerkey", "answer_idx", "correct", "cop", "solution", "output"),
    ),
    "response": ("response", "solution", "completion", "demonstration", "rationale", "explanation", "output"),
}
"""What data sets call the columns, the commonest first."""


def columns_read(source: Source) -> frozenset[str]:
    """Every column that preparation may look at; dots reach into structs."""
    names = {source.answer_column, source.response_column, DAPO_ANSWER}
    asked = columns_asked(source.prompt_column)
    return frozenset(names.union(asked, OWN_NAMES, source.columns, TEST_COLUMNS if source.grader == "tests" else ()))


def columns_asked(prompt_column: str) -> list[str]:
    """The columns of a prompt: those in braces (`{passage} {question}`), or the one that is named."""
    return _BRACED.findall(prompt_column) or [prompt_column]


def filled(prompt_column: str, record: Mapping[str, Any], *, lettered: bool) -> Any:
    """The prompt of a row: the one column as it is; of several the text around them with each as text. None where one
    is missing.

    A list is a line for each entry. With `lettered`, as the grader `choice` reads them, entries that do not begin
    with their letter get one: `(A) 5`.
    """
    if not _BRACED.search(prompt_column):
        return lookup(record, prompt_column)
    values = {name: lookup(record, name) for name in columns_asked(prompt_column)}
    if any(value is None for value in values.values()):
        return None
    return _BRACED.sub(lambda found: _as_text(values[found[1]], lettered=lettered), prompt_column)


def _as_text(value: Any, *, lettered: bool) -> str:
    if isinstance(value, Mapping) and value.keys() >= {"label", "text"}:  # CommonsenseQA's entries, ARC's lists
        label, text = value["label"], value["text"]
        if not isinstance(text, list):
            return f"({label}) {text}"
        return "\n".join(f"({one}) {of}" for one, of in zip(label, text, strict=False))
    if isinstance(value, Mapping):  # MedQA's: an option by its letter; parquet has all letters in each row
        return "\n".join(f"({name}) {_as_text(of, lettered=False)}" for name, of in value.items() if of is not None)
    if not isinstance(value, list):
        return str(value)
    lines = [_as_text(entry, lettered=lettered) for entry in value]
    letters = ascii_uppercase[: len(lines)]
    named = any(isinstance(entry, Mapping) for entry in value) or all(
        re.match(rf"\(?{letter}\b", line) for letter, line in zip(letters, lines, strict=False)
    )
    if lettered and not named and len(lines) == len(letters):
        lines = [f"({letter}) {line}" for letter, line in zip(letters, lines, strict=True)]
    return "\n".join(lines)


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
