"""Which columns of a user's file are which, told by their names and by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from fipo.config import Source
from fipo.config.data import TEST_COLUMNS
from fipo.data.columns import DAPO_ANSWER, USUAL, columns_asked, no_column, present
from fipo.data.formats import read_file
from fipo.data.rows import Row
from fipo.data.sources import columns_of, read_rows
from fipo.data.validation import BOX
from fipo.errors import ConfigError, DataError

LOOKED_AT = 500
"""Rows that tell; the benchmark is taken from among them."""
MARKS = ("####", "The answer is", "Answer:")
"""Text that announces the answer at the end of a solution; GSM8K has the first."""
MOST = 0.8
"""What so many rows have is meant."""

BEFORE, OPTIONS = ("body", "context", "passage", "background", "article", "story"), ("options", "choices", "endings")
"""Columns without which a question cannot be answered."""
OPTION = re.compile(r"(option|opt|choice|ending|op(?=[a-h])|)[_ ]?([a-h]|[0-8])", re.IGNORECASE)
"""A column of one option: `A` (C-Eval, CMMLU), `opa` (MedMCQA), `option1`, `ending0`."""
PIQA = ("goal", "sol1", "sol2")
ASKING = ("content", "ctx", "goal", "sentence")
"""Names of problems' columns that mean other things too; all but the first where there are options alone."""
TESTS = {
    "input_output": "",
    "public_test_cases": "",
    "test_list": "\nThe program must pass these tests:\n{test_list}",  # they alone name the function
    "test": "",
}
"""Columns of tests for programs, and what a problem must say of them; `test` beside an `entry_point`."""

ASKS = {
    "math": "Reason step by step, and put the final answer into \\boxed{}.",
    "choice": "Reason step by step, and put the letter of the right option into \\boxed{}.",
    "tests": "Answer with the whole program in Python, in one block of code.",
}
"""By grader, what is said after a problem."""
ASKED_ALREADY = (BOX, "####", "Answer:")
"""Problems that hold one of them say themselves where the answer shall stand."""


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
    answers_from: int | None
    """The number of the first option where answers are numbers: see `Source.answers_from`."""
    prompt_template: str
    """What is said around a problem: see `DataConfig.prompt_template`."""
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
    rows = _readable(path)
    values = _values(rows)
    tests = next((name for name in TESTS if name in values and (name != "test" or "entry_point" in values)), "")
    told = {kind: name for kind, name in (named or {}).items() if name}
    prompt, answer, response = _chosen(path, values, ({"answer": tests} if tests else {}) | told)
    answers = [str(value) for value in values[answer]]
    after = next((mark for mark in MARKS if _share(mark in text for text in answers) > MOST), "")
    if not response and (after or _share(BOX in text for text in answers) > MOST):
        response = answer
    grader = "tests" if answer == tests else "choice" if _is_choice(answer, values) else "math"
    if grader == "tests":  # a program is right in many ways, and has no ending
        after = response = ""
    asked_already = _share(any(mark in str(one) for mark in ASKED_ALREADY) for one in values.get(prompt, ())) > MOST
    prompt = prompt if "prompt" in told else _asked(prompt, values, grader, tests)
    wanted = [*columns_asked(prompt), *filter(None, (answer, response)), *(TEST_COLUMNS if answer == tests else ())]
    return FoundData(
        prompt_column=prompt,
        answer_column=answer,
        answer_after=after,
        response_column=response,
        grader=grader,
        answers_from=_numbered_from(answer, values) if grader == "choice" else None,
        prompt_template="{prompt}" + ("" if asked_already and grader != "tests" else f"\n{ASKS[grader]}"),
        benchmark=_spread([{name: row[name] for name in present(row, wanted)} for row in rows]),
        left_out=tuple(name for name in values if not any(name == one or name.startswith(f"{one}.") for one in wanted)),
    )


def _readable(path: Path) -> list[Mapping[str, Any]]:
    """The first rows.

    Raises:
        DataError: there is no such file, or none of its rows can be read.
    """
    if not path.exists():
        raise DataError(f"--data {path}: there is no such file")
    found = _first_rows(path, columns_of(Source(uri=str(path.absolute()))))
    rows = [row.content for row in found if isinstance(row.content, Mapping)]
    if not rows:
        why = next((f": line {row.line}: {row.error.reason}, {row.error.detail}" for row in found if row.error), "")
        raise DataError(f"--data {path}: no row of it can be read{why}")
    return rows


def _chosen(path: Path, values: Mapping[str, list[Any]], told: Mapping[str, str]) -> list[str]:
    """The columns of prompt, answer and response: those that are told, else those of usual names."""
    chosen: dict[str, str] = {}
    options = _options(values)
    for kind in ("prompt", "answer", "response"):
        name = told.get(kind, "")
        if unknown := next((one for one in columns_asked(name) if name and one not in values), ""):
            raise ConfigError(f"--{kind}-column: {path} has {no_column(unknown, values)}")
        free = {
            one: found
            for one, found in values.items()
            if one not in chosen.values()
            and not (options and f"{one}.".startswith(f"{options}."))
            and _share(_fits(kind, value) for value in found) > MOST
        }
        choices = {one: found for one, found in free.items() if kind == "answer" and _is_choice(one, values)}
        choice, any_kind = _usual(kind, choices), _usual(kind, free)
        has_choice = choice and len(values[choice]) > MOST * len(values.get(any_kind, ()))
        chosen[kind] = name or (choice if has_choice else any_kind)
        if kind == "prompt" and not chosen[kind]:
            fitting = ASKING if _options(values) or _apart(values) else ASKING[:1]
            chosen[kind] = next((one for one in free if one.casefold() in fitting), "")
        if not chosen[kind] and kind != "response":
            raise ConfigError(
                f"--data {path}: no column of more than one text is named as the {kind} usually is "
                f"({', '.join(USUAL[kind])}); there are {', '.join(map(repr, values))}. Name it: --{kind}-column NAME"
            )
    return list(chosen.values())


def _fits(kind: str, value: Any) -> bool:
    """Whether it can be one: a prompt is text or messages, an answer one value, a response text."""
    if isinstance(value, list):
        return len(value) == 1 if kind == "answer" else kind == "prompt" and isinstance(next(iter(value), 0), Mapping)
    if kind == "response":  # ASDiv's `solution_type` is a word
        return isinstance(value, str) and (len(value.split()) > 1 or BOX in value)
    return kind == "answer" or isinstance(value, str)


def _is_choice(name: str, values: Mapping[str, list[Any]]) -> bool:
    """Whether a column holds the letters of options, or their numbers."""
    return _are_letters(values[name]) or _numbered_from(name, values) is not None


def _are_letters(found: Sequence[Any]) -> bool:
    """Whether a column holds the letters of options."""
    letters = [str(value).strip("() .") for value in found]
    return _share(len(one) == 1 and one.isalpha() for one in letters) > 0.9


def _numbered_from(name: str, values: Mapping[str, list[Any]]) -> int | None:
    """The number of the first option, 0 or 1, where a column holds options' numbers; None where it does not.

    What always stands among the row's own options is one of them, and no number.
    """
    answers = [str(value) for value in values[name] if not isinstance(value, bool)]
    lists = [one for one in values.get(_options(values), []) if isinstance(one, list)]
    named = [values[one] for one in _apart(values) if len(one) > 1]  # `a`, `b` and numbers may be a sum of theirs
    options = lists or [*map(list, zip(*named, strict=True))]
    if not len(answers) == len(options) == len(values[name]) or not all(re.fullmatch(r"\d{1,2}", a) for a in answers):
        return None
    if all(answer in map(str, of) for answer, of in zip(answers, options, strict=True)):
        return None
    pairs = [(int(answer), len(of)) for answer, of in zip(answers, options, strict=True)]
    if all(number < count for number, count in pairs):
        return 0 if any(number == 0 for number, _ in pairs) else None
    return 1 if all(1 <= number <= count for number, count in pairs) else None


def _asked(prompt: str, values: Mapping[str, Sequence[Any]], grader: str, tests: str) -> str:
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
    if options := _options(values):
        after = f"\n{{{options}}}"
    elif grader == "choice":
        after = "".join(f"\n({letter}) {{{one}}}" for letter, one in zip(ascii_uppercase, _apart(values), strict=False))
    else:
        after = TESTS.get(tests, "")
    if not (before or after):
        return prompt
    return (f"{{{before}}}\n" if before else "") + f"{{{prompt}}}" + after


def _options(values: Iterable[str]) -> str:
    """The column of the options to choose from; empty where there is none."""
    inside = {f"{one}.{of}" for one in OPTIONS for of in ("text", "a")}  # ARC's lists, MedQA's letters
    return next((name for name in values if name.rpartition(".")[2].casefold() in OPTIONS), "") or next(
        (name.rpartition(".")[0] for name in values if name.casefold() in inside), ""
    )


def _apart(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """The columns of the options where each has one of its own, and a text in all rows, in their order."""
    most, found = max(map(len, values.values()), default=0), dict[str, dict[str, str]]()
    if all(len(values.get(name, ())) == most for name in PIQA):
        return [*PIQA[1:]]
    for name in (name for name, texts in values.items() if len(texts) == most):
        if is_option := OPTION.fullmatch(name):
            found.setdefault(is_option[1], {})[is_option[2].casefold()] = name
    for marked in found.values():
        for marks in ("abcdefgh", "12345678", "01234567"):
            if len(marked) > 1 and set(marked) == set(marks[: len(marked)]):
                return [marked[mark] for mark in marks[: len(marked)]]
    return []


def _first_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Those that tell; where a row cannot be read, without the columns that are to blame for it, if any are."""

    if path.is_dir():
        return list(read_rows(Source(uri=str(path.absolute()), columns=tuple(columns), limit=LOOKED_AT)))

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

    def take(name: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for field, one in value.items():
                take(f"{name}.{field}", one)
        elif value not in (None, ""):
            found.setdefault(name, []).append(value)

    for row in rows:
        for name, value in row.items():
            take(name, value)
    return found


def _usual(kind: str, values: Mapping[str, Sequence[Any]]) -> str:
    """The column of a usual name, the commonest first, as it is or inside a struct; else the only one that has such a
    name among its words; empty where there is none, or several may be meant.

    One with the same text in all rows holds no problem and no answer. Where verl's layout has an answer it is that one.
    """
    names = [name for name, found in values.items() if len(found) == 1 or any(one != found[0] for one in found)]
    if kind == "answer" and DAPO_ANSWER in names:
        return DAPO_ANSWER
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
