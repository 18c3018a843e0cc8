"""Which columns of a user's file are which, told by their names and by what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fipo.config import Source
from fipo.data.columns import USUAL
from fipo.data.sources import columns_of, read_rows
from fipo.errors import ConfigError, DataError

LOOKED_AT = 500
"""Rows that tell; the benchmark is taken from among them."""
MARKS = ("####", "The answer is", "Answer:")
"""Text that announces the answer at the end of a solution; GSM8K has the first."""


@dataclass(frozen=True, slots=True)
class FoundData:
    """A file of rows, as a recipe names it."""

    prompt_column: str
    answer_column: str
    answer_after: str
    response_column: str
    """Of demonstrations; empty where there are none."""
    grader: str
    benchmark: list[dict[str, Any]]
    """Rows to measure on; preparation takes them out of what is learned from."""

    @property
    def ending(self) -> str:
        """How demonstrations must end for the grader: see `Source.ending`."""
        return "boxed" if self.response_column else ""

    def describe(self) -> str:
        """For people."""
        after = f" after {self.answer_after!r}" if self.answer_after else ""
        response = f"; demonstrations from {self.response_column!r}" if self.response_column else ""
        return f"problem from {self.prompt_column!r}, answer from {self.answer_column!r}{after}{response}"


def look_at_data(path: Path) -> FoundData:
    """Which columns hold what.

    Raises:
        ConfigError: no column has one of the usual names.
        DataError: the file cannot be read, or is empty.
    """
    if not path.is_file():
        raise DataError(f"--data {path}: there is no such file")
    columns = columns_of(Source(uri=str(path.absolute())))
    if not columns:
        raise DataError(f"--data {path}: no row of it can be read")
    prompt, answer = _named("prompt", columns, path), _named("answer", columns, path)
    response = next((name for name in USUAL["response"] if name in columns and name not in (prompt, answer)), "")
    source = Source(
        uri=str(path.absolute()), prompt_column=prompt, answer_column=answer, response_column=response or "response"
    )
    rows = [row.content for row in islice(read_rows(source), LOOKED_AT) if isinstance(row.content, Mapping)]
    answers = [str(row.get(answer, "")) for row in rows]
    after = next((mark for mark in MARKS if _share(mark in text for text in answers) > 0.8), "")
    letters = _share(len(text.strip("() .")) == 1 and text.strip("() .").isalpha() for text in answers) > 0.9
    return FoundData(
        prompt_column=prompt,
        answer_column=answer,
        answer_after=after,
        response_column=answer if after else response,
        grader="choice" if letters else "math",
        benchmark=_spread([dict(row) for row in rows]),
    )


def _named(kind: str, columns: Sequence[str], path: Path) -> str:
    lower = {name.casefold(): name for name in columns}
    found = next((lower[name] for name in USUAL[kind] if name in lower), None)
    if found is None:
        raise ConfigError(
            f"--data {path}: no column is named as the {kind} usually is ({', '.join(USUAL[kind])}); there are "
            f"{', '.join(columns)}. Rename it, or run `fipo init` without --data and name it in the recipe"
        )
    return found


def _share(hits: Iterable[bool]) -> float:
    told = list(hits)
    return told.count(True) / max(1, len(told))


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One in ten, evenly, at least one and at most fifty."""
    count = min(50, max(1, len(rows) // 10))
    return [rows[index * len(rows) // count] for index in range(count)]
