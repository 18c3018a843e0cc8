"""Finished problems of an evaluation on disk, so that a run that was stopped does not sample them again."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from fipo.errors import DataError
from fipo.evaluation.results import ProblemResult
from fipo.evaluation.tables import read_problems, responses_table, write_table


class Parts:
    """A folder of parquet parts, each a few problems with all their responses; ranks may share it.

    Args:
        directory: made when the first part is written.
        key: what the responses depend on (weights, sampling, benchmark) as one text or digest; parts of another key are
            not read.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = directory
        self.key = key

    def read(self) -> dict[str, ProblemResult]:
        """All finished problems by id; a part that is damaged counts as absent."""
        problems: dict[str, ProblemResult] = {}
        for path in sorted(self.directory.glob("*.parquet")):
            try:
                found, metadata = read_problems(path)
            except DataError as error:
                print(f"{error}; its problems are answered again", file=sys.stderr, flush=True)
                continue
            if metadata.get("key") == self.key:
                problems |= {problem.id: problem for problem in found}
        return problems

    def append(self, problems: Sequence[ProblemResult]) -> None:
        """Keep these problems; they appear whole or not at all."""
        name = hashlib.sha256("\n".join([self.key, *(problem.id for problem in problems)]).encode()).hexdigest()[:16]
        write_table(responses_table(problems), self.directory / f"{name}.parquet", key=self.key)
