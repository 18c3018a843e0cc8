"""Which columns of a user's file are which, told by their names and by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fipo.config import Source
from fipo.data.columns import USUAL, columns_asked, no_column, present
from fipo.data.formats import read_file
from fipo.data.rows import Row
from fipo.data.sources import columns_of
from fipo.errors import ConfigError, DataError

LOOKED_AT = 500
"""Rows that tell; the benchmark is taken from among them."""
MARKS = ("####", "The answer is", "Answer:")
"""Text that announces the answer at the end of a solution; GSM8K has the first."""

BEFORE, OPTIONS = ("body", "context", "passage", "background", "article", "story"), ("options", "choices")
"""Columns without which a question cannot be answered."""


@dataclass(frozen=True, slots=True)
class FoundData:
    """A file of rows, as a recipe names it."""

    prompt_column: str
    """One column, or several in braces: see `Source.prompt_column`."""
    answer_column: str
    answer_after: str
    response_column: str
    """Of demonstrations; empty where there are none."""
    grader: str
    benchmark: list[dict[str, Any]]
    """Rows to measure on; preparation takes them out of what is learned from."""
    left_out: tuple[str, ...]
    """Columns that nothing is read from."""

    @property
    def ending(self) -> str:
        """How demonstrations must end for the grader: see `Source.ending`."""
        return "boxed" if self.response_column else ""

    def describe(self) -> str:
        """For people."""
        after = f" after {self.answer_after!r}" if self.answer_after else ""
        response = f"; demonstrations from {self.response_column!r}" if self.response_column else ""
        more = f" and {len(self.left_out) - 6} more" if len(self.left_out) > 6 else ""
        unread = f"; not read: {', '.join(map(repr, self.left_out[:6]))}{more}" if self.left_out else ""
        return f"problem from {self.prompt_column!r}, answer from {self.answer_column!r}{after}{response}{unread}"


def look_at_data(path: Path, named: Mapping[str, str] | None = None) -> FoundData:
    """Which columns hold what.

    Args:
        path: the rows.
        named: columns that the user names, by `prompt`, `answer` and `response`.

    Raises:
        ConfigError: no column has one of the usual names, or there is none of a name that is given.
        DataError: the file cannot be read, or is empty.
    """
    if not path.is_file():
        raise DataError(f"--data {path}: there is no such file")
    uri = str(path.absolute())
    columns = columns_of(Source(uri=uri))
    if not columns:
        raise DataError(f"--data {path}: no row of it can be read")
    rows = [row.content for row in _first_rows(path, columns) if isinstance(row.content, Mapping)]
    values = _values(rows)
    chosen: dict[str, str] = {}
    for kind in ("prompt", "answer", "response"):
        told = (named or {}).get(kind, "")
        if told and told not in values:
            raise ConfigError(f"--{kind}-column: {path} has {no_column(told, values)}")
        chosen[kind] = told or _usual(kind, {name: values[name] for name in values if name not in chosen.values()})
        if not chosen[kind] and kind != "response":
            raise ConfigError(
                f"--data {path}: no column of more than one text is named as the {kind} usually is "
                f"({', '.join(USUAL[kind])}); there are {', '.join(map(repr, values))}. Name it: --{kind}-column NAME"
            )
    prompt, answer, response = chosen.values()
    prompt = prompt if (named or {}).get("prompt") else _asked(prompt, values)
    answers = [str(value) for value in values[answer]]
    after = next((mark for mark in MARKS if _share(mark in text for text in answers) > 0.8), "")
    letters = _share(len(text.strip("() .")) == 1 and text.strip("() .").isalpha() for text in answers) > 0.9
    wanted = [*columns_asked(prompt), *filter(None, (answer, response))]
    return FoundData(
        prompt_column=prompt,
        answer_column=answer,
        answer_after=after,
        response_column=response or (answer if after else ""),
        grader="choice" if letters else "math",
        benchmark=_spread([{name: row[name] for name in present(row, wanted)} for row in rows]),
        left_out=tuple(name for name in values if not any(name == one or name.startswith(f"{one}.") for one in wanted)),
    )


def _asked(prompt: str, values: Mapping[str, Sequence[Any]]) -> str:
    """The prompt's column, with those that belong to it: what stands before the question, and the options after it."""
    questions = values[prompt]

    def tells(name: str) -> bool:
        """Whether it holds text that the question does not repeat."""
        return (
            all(isinstance(one, str) for one in values[name])
            and len(values[name]) == len(questions)
            and not any(
                one.strip() in question for one, question in zip(values[name], questions, strict=True) if one.strip()
            )
        )

    before = next((name for name in values if name.casefold() in BEFORE and tells(name)), "")
    inside = {f"{one}.{of}" for one in OPTIONS for of in ("text", "a")}  # ARC's lists, MedQA's letters
    options = next((name for name in values if name.rpartition(".")[2].casefold() in OPTIONS), "") or next(
        (name.rpartition(".")[0] for name in values if name.casefold() in inside), ""
    )
    if not (before or options):
        return prompt
    return (f"{{{before}}}\n" if before else "") + f"{{{prompt}}}" + (f"\n{{{options}}}" if options else "")


def _first_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Those that tell; where a row cannot be read, without the columns that are to blame for it, if any are."""

    def read(wanted: Sequence[str]) -> list[Row]:
        return list(islice(read_file(path, str(path), wanted), LOOKED_AT))

    rows = read(columns)
    if not any(row.error for row in rows):
        return rows
    sound = [name for name in columns if not any(row.error for row in read([name]))]
    return read(sound) if sound else rows


def _values(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each column that is not always empty; those inside a struct by its name with a dot."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            inside = {f"{name}.{field}": one for field, one in value.items()} if isinstance(value, Mapping) else {}
            for path, one in (inside or {name: value}).items():
                if one not in (None, ""):
                    found.setdefault(path, []).append(one)
    return found


def _usual(kind: str, values: Mapping[str, Sequence[Any]]) -> str:
    """The column of a usual name, the commonest first, as it is or inside a struct; else the only one that has such a
    name among its words; empty where there is none, or several may be meant.

    One with the same text in all rows holds no problem and no answer.
    """
    names = [name for name, found in values.items() if len(found) == 1 or any(one != found[0] for one in found)]
    for spelled in (str.casefold, lambda name: name.rpartition(".")[2].casefold()):
        for usual in USUAL[kind]:
            if found := next((name for name in names if spelled(name) == usual), ""):
                return found
    among = [name for name in names if any(set(usual.split("_")) <= _words(name) for usual in USUAL[kind])]
    return among[0] if len(among) == 1 else ""


def _words(name: str) -> set[str]:
    """`Correct Answer`, `correct_answer` and `correctAnswer` have two."""
    return {word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name.rpartition(".")[2])}


def _share(hits: Iterable[bool]) -> float:
    told = list(hits)
    return told.count(True) / max(1, len(told))


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One in ten, evenly, at least one and at most fifty."""
    count = min(50, max(1, len(rows) // 10))
    return [rows[index * len(rows) // count] for index in range(count)]
