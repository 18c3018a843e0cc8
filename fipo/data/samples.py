"""Whether each source's grader can be called at all, found out on the first rows, before anything else is done."""

from __future__ import annotations

from itertools import islice

from fipo.config import Config, Source
from fipo.data.sources import Reason, RowError, read_rows
from fipo.data.validation import Refusal, to_problem
from fipo.errors import ConfigError

SAMPLE_ROWS = 8
"""One that a grader cannot use may be the row's fault; so many are not."""


def check_graders(config: Config, refusal: Refusal) -> None:
    """Call the grader of every source on its first rows.

    Args:
        config: `data` names sources and graders.
        refusal: why a grader cannot grade against a reference answer.

    Raises:
        ConfigError: a grader cannot be imported, or refuses all of them.
        DataError: a data set is missing or unreadable as a whole.
    """
    for setting, source in config.data.sources.items():
        problem = _refused(source, refusal, demonstration=setting.startswith("data.sft"))
        if problem:
            raise ConfigError(
                f"{setting}.grader: {source.grader} must take a row of {source.uri or 'the generator'}; of the first "
                f"{SAMPLE_ROWS} it takes none: {problem}"
            )


def _refused(source: Source, refusal: Refusal, *, demonstration: bool) -> str:
    """Why none of the first rows can be graded; empty where one can, or where none has got so far."""
    reason = ""
    for row in islice(read_rows(source), SAMPLE_ROWS):
        try:
            to_problem(row, source, "", refusal=refusal, demonstration=demonstration)
        except RowError as error:
            if error.reason in (Reason.UNVERIFIABLE, Reason.NO_COLUMN):
                reason = f"row {row.line}: {error.detail}"
        else:
            return ""
    return reason
