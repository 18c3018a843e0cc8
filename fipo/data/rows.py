"""One raw row of a data set, and what may be wrong with it. A broken row is a row too, with its error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import isinf
from typing import Any


class Reason(StrEnum):
    """Why a row was quarantined (a fault of the row) or removed (a fact about the set)."""

    LINE_TOO_LONG = "line too long"
    NOT_UTF8 = "not UTF-8"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not a JSON object"
    REPEATED_KEY = "a key stands there twice"
    UNEVEN = "not the header's number of columns"
    UNREADABLE = "a value cannot be read"
    NO_PROMPT = "no prompt"
    NO_ANSWER = "no answer"
    NO_RESPONSE = "no demonstration"
    NOT_TEXT = "not text"
    NOT_UNICODE = "not valid Unicode"
    INEXACT = "a number of too many digits"
    NO_COLUMN = "a grader's column is missing"
    UNVERIFIABLE = "answer cannot be verified"
    GULLIBLE = "answer accepts another one"
    UNRENDERABLE = "the chat template refuses or changes it"
    UNENCODABLE = "the tokenizer cannot encode it"
    CONFLICT = "same prompt, other answer"
    DUPLICATE = "exact duplicate"
    NEAR_DUPLICATE = "near duplicate"
    CONTAMINATED = "overlaps a benchmark"
    TOO_MANY_TOKENS = "prompt too long"
    LONG_DEMONSTRATION = "demonstration too long"


class RowError(Exception):
    """This row cannot be used; the others can."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Row:
    """One row as found."""

    line: int
    """Number of the line or row, from 1."""
    content: Mapping[str, Any] | bytes
    """The record, or the beginning of what could not be read."""
    error: RowError | None = None

    def excerpt(self, characters: int = 200) -> str:
        """The beginning of the row, to recognise it by."""
        if isinstance(self.content, bytes):
            return self.content[:characters].decode("utf-8", "backslashreplace")
        try:
            return json.dumps(self.content, ensure_ascii=True, default=repr)[:characters]
        except RecursionError:  # what could just be read may be too deep to be written
            return f"{{{', '.join(map(repr, self.content))}}}"[:characters]


class Inexact(float):
    """A number with more digits than a float holds: another number than what is written."""


class _Repeated(dict[str, Any]):
    """An object that has a key twice, at any depth: JSON does not say which one counts."""

    key: str = ""


def decode(text: str) -> Any:
    """What JSON holds: numbers that a float changes are `Inexact`, and repeated keys are remembered for `json_row`.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_float=_number, object_pairs_hook=_object)


def json_row(number: int, line: bytes) -> Row:
    """The row that a line of JSONL holds."""
    try:
        record = decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Row(number, line, RowError(Reason.NOT_UTF8, f"byte {error.start}: {error.reason}"))
    except (ValueError, RecursionError) as error:
        return Row(number, line, RowError(Reason.NOT_JSON, str(error)))
    return record_row(number, record, line)


def record_row(number: int, record: Any, content: bytes = b"") -> Row:
    """The row that a decoded value is; `content` is for an excerpt of what is none."""
    if not isinstance(record, dict):
        content = content or repr(record)[:1000].encode("utf-8", "replace")
        return Row(number, content, RowError(Reason.NOT_AN_OBJECT, type(record).__name__))
    if isinstance(record, _Repeated):
        return Row(number, record, RowError(Reason.REPEATED_KEY, repr(record.key)))
    return Row(number, record)


def _number(text: str) -> float:
    number = float(text)
    return number if not isinf(number) and Fraction(repr(number)) == Fraction(text) else Inexact(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    key = next(_repeated(pairs, found), None)
    if key is None:
        return found
    marked = _Repeated(found)
    marked.key = key
    return marked


def _repeated(pairs: list[tuple[str, Any]], found: Mapping[str, Any]) -> Iterator[str]:
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        yield next(name for name in names if names.count(name) > 1)
    for value in found.values():
        inside = value if isinstance(value, list) else (value,)
        yield from (one.key for one in inside if isinstance(one, _Repeated))
