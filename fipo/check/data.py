"""Data sets: are they there, have they the columns, and do their first rows pass preparation?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from fipo.check.look import Look
from fipo.config import Source
from fipo.data.audit import Audit
from fipo.data.columns import DAPO_ANSWER, columns_asked, no_column
from fipo.data.demonstrations import Demonstrations
from fipo.data.manifest import Tally
from fipo.data.rows import Reason, Row, RowError
from fipo.data.schema import Problem
from fipo.data.sources import columns_of, is_elsewhere, read_rows
from fipo.data.validation import to_problem
from fipo.errors import ConfigError, DataError
from fipo.findings import Finding, Status, excerpt
from fipo.inputs.external import A_DATA_SET, named

ROWS = 50
"""One that cannot be used may be the row's fault; so many are not."""

SENTENCE = 5
"""Words of an answer that is none by itself."""


def sources(look: Look) -> Iterator[Finding]:
    """One finding for each data set."""
    for setting, source in look.sources.items():
        with named(f"{setting}.uri", A_DATA_SET):
            elsewhere = "" if look.download else is_elsewhere(source)
            columns = [] if elsewhere else columns_of(source)
        if elsewhere:
            yield Finding(setting, "warning", f"{source.uri}: {elsewhere}; `fipo prepare` looks at its rows")
            continue
        _require_columns(setting, source, columns)
        found, faults = _sound(setting, source, look)
        look.sound[setting] = [problem for _, problem in found]
        demonstrations = _demonstrations(setting, source, found, look)
        doubts = "" if setting.startswith("data.sft") else _doubts(source, look.sound[setting])
        name = Path(source.uri).name if source.uri else "the generator"
        rows = f"{name}: {len(found)} of the first {len(found) + len(faults)} rows are sound"
        counts = Counter(error.reason for _, error in faults)
        reasons = "".join(f"; {count} {reason}" for reason, count in counts.most_common())
        example = f" (line {faults[0][0].line}: {faults[0][1].detail})" if faults and faults[0][1].detail else ""
        status: Status = "warning" if faults or doubts else "ok"
        yield Finding(setting, status, f"{rows}{reasons}{example}{doubts}{demonstrations}")


def _doubts(source: Source, problems: Sequence[Problem]) -> str:
    """What preparation does with these rows that may not be meant, or what can hardly be learned from them."""
    repeated = len(problems) - len({problem.id for problem in problems})
    told = f"; {repeated} repeat the prompt of another row" if 2 * repeated > len(problems) else ""
    sentences = [one.answer for one in problems if len(one.answer.split()) >= SENTENCE]
    if source.grader == "math" and 2 * len(sentences) > len(problems):
        told += (
            f"; most answers are sentences, such as {excerpt(sentences[0], 60)!r}, and a response is right with the "
            "same words alone: is the bare answer in another column, or after a mark (answer_after)?"
        )
    if source.grader == "choice" and 2 * sum(map(_names_its_answer, problems)) < len(problems):
        told += (
            "; most problems do not name the option that is right, and only a guess can be: do the options stand in "
            'another column (prompt_column: "{question}\\n{options}")?'
        )
    return told


def _names_its_answer(problem: Problem) -> bool:
    """Whether its options are in it: `(A) 5`, `A. 5`, `A: 5`, `A 5` at the beginning of a line."""
    letter = re.escape(problem.answer.strip("() .:")[:1])
    return bool(re.search(rf"\(?\b{letter}\s*[).:、．]|^\s*{letter}\s", problem.prompt, re.IGNORECASE | re.MULTILINE))


def _require_columns(setting: str, source: Source, columns: Sequence[str]) -> None:
    """Raise ConfigError where a column that is named is not there."""
    named = [("prompt_column", name) for name in columns_asked(source.prompt_column)]
    named.append(("answer_column", source.answer_column))
    if setting.startswith("data.sft") or source.max_demonstration_tokens:
        named.append(("response_column", source.response_column))
    named += [(f"columns.{index}", name) for index, name in enumerate(source.columns)]
    if not columns:
        return  # no row could be read: they say why
    for field, name in named:
        is_dapo = field == "answer_column" and name == "answer" and DAPO_ANSWER.partition(".")[0] in columns
        if name not in columns and name.partition(".")[0] not in columns and not is_dapo:
            where = source.uri or "the generator"
            raise ConfigError(f"{setting}.{field}: {where} has {no_column(name, columns)}")


def _sound(setting: str, source: Source, look: Look) -> tuple[list[tuple[Row, Problem]], list[tuple[Row, RowError]]]:
    """Of the first rows those that preparation would take, and the others with their faults.

    Raises:
        ConfigError: the grader takes none of them.
        DataError: none of them is sound.
    """
    audit, found, faults = Audit(look.graders), [], []
    for row in islice(read_rows(source), ROWS):
        try:
            problem = to_problem(row, source, "", refusal=audit, demonstration=setting.startswith("data.sft"))
        except RowError as error:
            faults.append((row, error))
        else:
            found.append((row, problem))
    if found:
        return found, faults
    where = source.uri or "the generator"
    if not faults:
        raise DataError(f"{setting}.uri: {where} has no rows")
    refused = [one for one in faults if one[1].reason in (Reason.UNVERIFIABLE, Reason.NO_COLUMN)]
    row, fault = (refused or faults)[0]
    if refused:
        raise ConfigError(
            f"{setting}.grader: {source.grader} must take a row of {where}; of the first {len(faults)} it takes none: "
            f"row {row.line}: {fault.detail}"
        )
    raise DataError(
        f"{setting}.uri: {where}: none of the first {len(faults)} rows can be used; line {row.line}: {fault.reason}"
        f"{f', {fault.detail}' if fault.detail else ''}"
    )


def _demonstrations(setting: str, source: Source, found: Sequence[tuple[Row, Problem]], look: Look) -> str:
    """What the grader says of the demonstrations.

    Raises:
        DataError: too few of them are correct.
    """
    if source.is_made or not setting.startswith("data.sft"):  # a generator's are as wrong as they are meant to be
        return ""
    tally = Tally(setting, source.uri or "running-sums")
    demonstrations = Demonstrations(look.graders, look.config.data.max_wrong_demonstrations)
    demonstrations.grade(tally, found)
    warning = demonstrations.close(tally, source)
    return "".join(f"; {line}" for line in warning) or "; every demonstration is correct"
