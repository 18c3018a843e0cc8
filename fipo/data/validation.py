"""From a raw row to a `Problem`, or the reason why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from fipo.config import Source
from fipo.data.schema import Problem, content_id
from fipo.data.sources import Reason, Row, RowError

DAPO_ANSWER = "reward_model.ground_truth"
"""Where DAPO-Math-17k and other data sets of verl's layout keep the answer."""

MAX_ANSWER_CHARACTERS = 1000
"""Symbolic parsing of an answer of any length could take minutes."""


def to_problem(
    row: Row, source: Source, name: str, *, accepts_answer: Callable[[str], bool], demonstration: bool
) -> Problem:
    """Check one row and take what is needed from it.

    Args:
        row: as `read_rows` gave it.
        source: names the columns.
        name: the problem's source, unless the row names its own.
        accepts_answer: whether the verifier can parse a reference answer.
        demonstration: whether a response is required (else it is ignored).

    Raises:
        RowError: the row is broken, incomplete, or its answer cannot be verified.
    """
    if row.error:
        raise row.error
    record: Any = row.content
    prompt = _text(_prompt(_lookup(record, source.prompt_column)), source.prompt_column, Reason.NO_PROMPT)
    answer = _text(_answer(record, source), source.answer_column, Reason.NO_ANSWER)
    response = ""
    if demonstration:
        response = _text(_lookup(record, source.response_column), source.response_column, Reason.NO_RESPONSE)
    if len(answer) > MAX_ANSWER_CHARACTERS or not accepts_answer(answer):
        raise RowError(Reason.UNVERIFIABLE, answer[:100])
    return Problem(content_id(prompt), prompt, answer, response, _own_name(record) or name)


def _lookup(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column; dots reach into structs. None when there is none."""
    if column in record:
        return record[column]
    value: Any = record
    for part in column.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _prompt(value: Any) -> Any:
    """A chat's one user message, after its system message if there is one; anything else as it is."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in value):
        raise RowError(Reason.NOT_TEXT, "the prompt is a list, but not of messages {role, content}")
    roles = [message.get("role") for message in value]
    if roles not in (["user"], ["system", "user"]):
        raise RowError(Reason.NO_PROMPT, f"expected one user message, found the roles {roles}")
    return "\n\n".join(message["content"] for message in value)


def _answer(record: Mapping[str, Any], source: Source) -> Any:
    """The reference answer, a finite number as its text; anything else as it is."""
    value = _lookup(record, source.answer_column)
    if value is None and source.answer_column == Source.model_fields["answer_column"].default:
        value = _lookup(record, DAPO_ANSWER)
    if isinstance(value, list) and len(value) == 1:  # OlympiadBench: one entry, whatever number of answers it holds
        value = value[0]
    if source.answer_after and isinstance(value, str):
        value = value.rpartition(source.answer_after)[2]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    is_finite = isinstance(value, float) and math.isfinite(value)
    return str(value) if is_integer or is_finite else value


def _text(value: Any, column: str, missing: Reason) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowError(missing, f"column {column!r} is missing or empty")
    if not isinstance(value, str):
        raise RowError(Reason.NOT_TEXT, f"column {column!r} is {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(Reason.NOT_UNICODE, f"column {column!r}: {error.reason} at {error.start}") from None
    return value.strip()


def _own_name(record: Mapping[str, Any]) -> str:
    """The name that a row gives its origin."""
    for column in ("source", "data_source"):
        value = record.get(column)
        if isinstance(value, str) and value.isprintable():
            return value
    return ""
