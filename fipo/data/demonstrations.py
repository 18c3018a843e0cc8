"""Whether demonstrations end as the grader wants: a warm-up teaches their ending, whatever it is worth."""

from __future__ import annotations

from collections.abc import Sequence

from fipo.config import Source
from fipo.data.manifest import Tally
from fipo.data.rows import Row
from fipo.data.schema import Problem
from fipo.errors import DataError, RewardError
from fipo.findings import excerpt
from fipo.outcome import Outcome
from fipo.rewards.pool import GraderPool, Item

EXAMPLES = 3
"""Demonstrations shown that are not correct."""
SHOWN_CHARACTERS = 120
"""Of each."""


class Demonstrations:
    """Grades the demonstrations of each source by the source's grader.

    Args:
        graders: in processes that can be killed.
        most: share that may be wrong or unparsed (`data.max_wrong_demonstrations`).
    """

    def __init__(self, graders: GraderPool, most: float) -> None:
        self._graders, self._most = graders, most
        self._examples: list[str] = []

    def grade(self, tally: Tally, found: Sequence[tuple[Row, Problem]]) -> None:
        """Count the outcomes of some of a source's demonstrations."""
        items = [Item(problem.grader, problem.response, problem.answer, problem.columns) for _, problem in found]
        for (row, problem), verdict in zip(found, self._graders.submit(items), strict=True):
            try:
                outcome = verdict.result().outcome
            except RewardError:  # it takes the reference answer, or the row would have been set aside
                outcome = Outcome.UNPARSED
            tally.demonstrations[outcome] = tally.demonstrations.get(outcome, 0) + 1
            if outcome is not Outcome.CORRECT and len(self._examples) < EXAMPLES:
                shown = excerpt(problem.response, SHOWN_CHARACTERS)
                self._examples.append(f"line {row.line} is {outcome}, answer {problem.answer[:40]!r}, in {shown!r}")

    def close(self, tally: Tally, source: Source) -> list[str]:
        """What is to be said of a source's demonstrations: lines, none where all are correct.

        Raises:
            DataError: too many of them are not correct.
        """
        examples, self._examples = self._examples, []
        counts, total = tally.demonstrations, sum(tally.demonstrations.values())
        failed = total - counts.get(Outcome.CORRECT, 0)
        if not failed:
            return []
        shares = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
        what = f"of {total:,} demonstrations in {tally.source} grader {source.grader} finds {shares}"
        if failed > self._most * total:
            mend = (
                ""
                if source.ending
                else "; `ending: boxed` in the source puts each answer into a box, which graders read"
            )
            raise DataError(
                f"data.sft: {what}: more than data.max_wrong_demonstrations = {self._most:g} are not correct{mend}. "
                + "; ".join(examples)
            )
        return [what, *examples]
