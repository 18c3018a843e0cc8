"""From a raw row to a `Problem`, or the reason why not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from string import ascii_uppercase
from typing import Any

from fipo.config import Source
from fipo.config.data import GRADERS, TEST_COLUMNS
from fipo.data.columns import DAPO_ANSWER, OWN_NAMES, filled, lookup
from fipo.data.rows import Inexact, Reason, Row, RowError
from fipo.data.schema import Problem, content_id
from fipo.rewards.answers.reader import final_answer

MAX_ANSWER_CHARACTERS = 1000
"""Symbolic parsing of an answer of any length could take minutes."""

BOX = r"\boxed"
READ_FROM_BOXES = ("math", "exact", "choice")
"""Graders that look at a response's final answer alone."""

Refusal = Callable[[str, str, str], str]
"""Of a grader, a reference answer and other columns (JSON): why it cannot grade against them; empty where it can."""


def to_problem(row: Row, source: Source, name: str, *, refusal: Refusal, demonstration: bool) -> Problem:
    """Check one row and take what is needed from it.

    Args:
        row: as `read_rows` gave it.
        source: names the columns.
        name: the problem's source, unless the row names its own.
        refusal: why a grader cannot grade against a reference answer.
        demonstration: whether a response is required; else it is read where the source limits its length.

    Raises:
        RowError: the row is broken, incomplete, or its answer cannot be verified.
    """
    if row.error:
        raise row.error
    try:
        return _problem(row.content, source, name, refusal, demonstration=demonstration)
    except RecursionError:  # what could just be read may be too deep to be written
        raise RowError(Reason.UNREADABLE, "nested too deeply") from None


def _problem(record: Any, source: Source, name: str, refusal: Refusal, *, demonstration: bool) -> Problem:
    asked = filled(source.prompt_column, record, lettered=source.grader == "choice")
    prompt = _text(_prompt(asked), source.prompt_column, Reason.NO_PROMPT)
    answer = _text(_answer(record, source), source.answer_column, Reason.NO_ANSWER)
    response = ""
    if demonstration or source.max_demonstration_tokens:
        response = _text(lookup(record, source.response_column), source.response_column, Reason.NO_RESPONSE)
        response = _ended(response, answer, source)
    columns = _columns(record, source)
    reason = too_long(answer, source.grader) or refusal(source.grader, answer, columns)
    if reason:
        raise RowError(Reason.UNVERIFIABLE, reason)
    own_name = _own_name(record) or name
    id_, environment = content_id(prompt), source.environment
    return Problem(id_, prompt, answer, response, own_name, source.grader, columns, environment)


def _ended(response: str, answer: str, source: Source) -> str:
    """The demonstration with the ending that the source asks for."""
    if source.ending != "boxed" or BOX in response:
        return response
    before, mark, _ = response.rpartition(source.answer_after) if source.answer_after else ("", "", "")
    return f"{(before if mark else response).rstrip()}\n\\boxed{{{answer}}}"


def too_long(answer: str, grader: str) -> str:
    """Why it cannot be an answer; tests and what a grader of one's own reads may be of any length."""
    is_limited = grader in GRADERS and grader != "tests"
    return answer[:100] if is_limited and len(answer) > MAX_ANSWER_CHARACTERS else ""


def _columns(record: Mapping[str, Any], source: Source) -> str:
    """The columns that the grader reads, as JSON."""
    found = {name: lookup(record, name) for name in source.columns}
    if inexact := next((name for name, value in found.items() if isinstance(value, Inexact)), ""):
        raise RowError(Reason.INEXACT, f"column {inexact!r}: write it as text, with all its digits")
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise RowError(Reason.NO_COLUMN, f"no column {missing[0]!r}, which grader {source.grader} reads")
    if source.grader == "tests":
        found |= {name: record[name] for name in TEST_COLUMNS if record.get(name)}
    return json.dumps(found, default=str, sort_keys=True)


def _prompt(value: Any) -> Any:
    """A chat's one user message, after its system message if there is one; anything else as it is."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in value):
        first = value[0] if value else "nothing"
        found = f"{{{', '.join(map(str, first))}}}" if isinstance(first, dict) else type(first).__name__
        raise RowError(
            Reason.NOT_TEXT,
            f"the prompt is a list, but not of messages {{role, content}} with text; it begins with {found}",
        )
    roles = [message.get("role") for message in value]
    if roles not in (["user"], ["system", "user"]):
        raise RowError(
            Reason.NO_PROMPT,
            f"expected one user message, found the roles {roles}: write what the user asks and what the assistant says "
            "into columns of their own (prompt_column, response_column)",
        )
    return "\n\n".join(message["content"] for message in value)


def _answer(record: Mapping[str, Any], source: Source) -> Any:
    """The reference answer, a finite number as its text; anything else as it is.

    A solution that ends in a box (MATH) is what the box holds; the number of an option (MMLU) is its letter.
    """
    value = lookup(record, source.answer_column)
    if value is None and source.answer_column == Source.model_fields["answer_column"].default:
        value = lookup(record, DAPO_ANSWER)
    if (
        isinstance(value, str) and value.startswith('["') and source.grader in ("math", "choice")
    ):  # Skywork-OR1: a list as text
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, list) and len(value) == 1:  # OlympiadBench: one entry, whatever number of answers it holds
        value = value[0]
    if source.answer_after and isinstance(value, str):
        value = value.rpartition(source.answer_after)[2]
    if isinstance(value, (list, dict)) and (source.grader == "tests" or source.grader not in GRADERS):
        return json.dumps(value, default=str)
    if isinstance(value, Inexact):
        raise RowError(Reason.INEXACT, f"column {source.answer_column!r}: write it as text, with all its digits")
    if isinstance(value, str) and BOX in value and source.grader in READ_FROM_BOXES:
        value = final_answer(value) or value
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if source.grader == "choice":
        is_number = isinstance(value, str) and source.answers_from is not None and re.fullmatch(r"\d{1,2}", value)
        option = int(value) - (source.answers_from or 0) if is_integer or is_number else -1
        if 0 <= option < len(ascii_uppercase):
            return ascii_uppercase[option]
    is_finite = isinstance(value, float | Decimal) and math.isfinite(value)
    return str(value) if is_integer or is_finite else value


def _text(value: Any, column: str, missing: Reason) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowError(missing, f"column {column!r} is missing or empty")
    if not isinstance(value, str):
        how = ": write what a response shall say" if isinstance(value, bool) else ""
        raise RowError(Reason.NOT_TEXT, f"column {column!r} is {type(value).__name__}, no text{how}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        was_bytes = "\udc80" <= value[error.start] <= "\udcff"  # as `surrogateescape` keeps them, in a table of text
        why = "bytes that are no UTF-8: save the file as CSV in UTF-8" if was_bytes else error.reason
        raise RowError(Reason.NOT_UNICODE, f"column {column!r}: {why} at {error.start}") from None
    return value.strip()


def _own_name(record: Mapping[str, Any]) -> str:
    """The name that a row gives its origin."""
    for column in OWN_NAMES:
        value = record.get(column)
        if isinstance(value, str) and value.isprintable():
            return value
    return ""
