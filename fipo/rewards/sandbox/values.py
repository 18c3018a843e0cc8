"""Plain data between a program and its judge: what the driver writes, read without trusting it, and compared."""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

MANY_KEYS = 100
TOLERANCE = 1e-6
"""Relative or absolute, of printed numbers whose expected value is written with a decimal point."""


class Iterated:
    """What a program gave to be gone through: equal to nothing, until a test makes a list or a set of it."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = entries

    def __repr__(self) -> str:
        return f"iter({self._entries!r})"


def decode(text: str) -> list[Any]:
    """The values of the expressions, made of Python's own types alone: no method of the program's is ever called.

    Raises:
        ValueError: it is not what the driver writes.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, list):
            raise ValueError("no list")
        return [_decode(value) for value in values]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no plain data: {error}") from error


def _decode(value: Any) -> Any:
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise ValueError("an object")
        return value
    match value:
        case ["int", str(digits)]:
            return int(digits, 16)
        case ["float", str(digits)]:
            return float.fromhex(digits)
        case ["complex", str(real), str(imaginary)]:
            return complex(float.fromhex(real), float.fromhex(imaginary))
        case ["bytes", str(digits)]:
            return bytes.fromhex(digits)
        case ["dict", *entries]:
            pairs = [(_decode(key), _decode(entry)) for key, entry in entries]
            _require_spread([key for key, _ in pairs])
            return dict(pairs)
        case [("set" | "frozenset") as name, *entries]:
            members = [_decode(entry) for entry in entries]
            _require_spread(members)
            return set(members) if name == "set" else frozenset(members)
        case ["iterator", *entries]:
            return Iterated([_decode(entry) for entry in entries])
        case [("list" | "tuple") as name, *entries]:
            decoded = [_decode(entry) for entry in entries]
            return decoded if name == "list" else tuple(decoded)
    raise ValueError("an unknown type")


def _require_spread(keys: list[Any]) -> None:
    """Refuse keys that were made to have one hash, for then each is compared with each."""
    if len(keys) > MANY_KEYS and 2 * len(set(map(hash, keys))) < len(keys):
        raise ValueError("keys of equal hashes")


def as_json(value: Any) -> Any:
    """As JSON would hold it: tuples are lists, and the keys that it has are text."""
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    if isinstance(value, dict):
        return {_json_key(key): as_json(entry) for key, entry in value.items()}
    return value


def _json_key(key: Any) -> Any:
    is_written = isinstance(key, (bool, float, type(None))) or (isinstance(key, int) and abs(key) < 2**64)
    return json.dumps(key) if is_written else key


def is_same(value: Any, expected: Any) -> bool:
    """Python's own equality of plain data."""
    try:
        return bool(value == expected)
    except RecursionError:
        return False


def prints_same(printed: str, expected: str) -> bool:
    """Whether outputs agree line by line and word by word; blanks at the ends of lines and of the text do not count.

    Where the expected word is a number with a decimal point, one that differs by no more than `TOLERANCE` will do.
    """
    ours, theirs = ([line.split() for line in text.rstrip().splitlines()] for text in (printed, expected))
    return len(ours) == len(theirs) and all(
        len(line) == len(other) and all(map(_is_same_word, line, other)) for line, other in zip(ours, theirs)
    )


def _is_same_word(word: str, expected: str) -> bool:
    if word == expected:
        return True
    if "." not in expected or len(word) > 100:
        return False
    try:
        ours, theirs = Decimal(word), Decimal(expected)
    except InvalidOperation:
        return False
    if not (ours.is_finite() and theirs.is_finite()):
        return False
    return math.isclose(float(ours), float(theirs), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
