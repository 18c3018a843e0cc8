"""Whether each source's grader and environment can be called at all, found out on the first rows, before all else."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

from fipo.batch import Prompt
from fipo.config import Config, Source
from fipo.data.sources import Reason, RowError, read_rows
from fipo.data.validation import Refusal, to_problem
from fipo.environments.host import Host
from fipo.errors import ConfigError, RolloutError
from fipo.rewards.sandbox.client import Limits

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


def check_environments(config: Config) -> None:
    """Begin a conversation on the first rows of every source that has an environment.

    Raises:
        ConfigError: an environment cannot be made, or refuses all of them.
        DataError: a data set is missing or unreadable as a whole.
    """
    with closing(Host(1, Limits())) as host:
        for setting, source in config.data.sources.items():
            problem = _refusing(source, host) if source.environment else ""
            if problem:
                raise ConfigError(
                    f"{setting}.environment: {source.environment} must take a row of "
                    f"{source.name}; of the first {SAMPLE_ROWS} it takes none: {problem}"
                )


def _refusing(source: Source, host: Host) -> str:
    """Why the environment takes none of the first rows; empty where it takes one, or where none is sound."""
    reason = ""
    for row in islice(read_rows(source), SAMPLE_ROWS):
        try:
            one = to_problem(row, source, "", refusal=lambda *_: "", demonstration=False)
            asked = Prompt(one.id, one.prompt, (), one.answer, columns=one.columns, environment=one.environment)
            host.begin(asked).result()
        except RowError:
            continue
        except RolloutError as error:
            reason = f"row {row.line}: {error}"
        else:
            return ""
    return reason


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
