"""Who votes for what: answers that mean the same are one vote, right or wrong, however they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fipo.outcome import Outcome

Equivalent = Callable[[Sequence[tuple[str, str]]], Sequence[bool]]
"""Whether the final answers of two responses mean the same, for each pair, in order."""


class Ballot:
    """The different answers to one problem, sorted into groups that mean the same.

    Correct responses are one group, for each was found equal to the reference. Of the others each answer is compared
    with the first of every group; one whose verification was cut off stands for itself, and keeps nobody waiting again.
    """

    def __init__(self, texts: Sequence[str], answers: Sequence[str | None], outcomes: Sequence[Outcome]) -> None:
        """[responses] of one problem: text, extracted answer, verdict."""
        self._answers, self._outcomes = answers, outcomes
        self._example = {answer: text for text, answer in zip(reversed(texts), reversed(answers))}
        self._vote_of: dict[str, str] = {}
        right = [answer for answer, outcome in zip(answers, outcomes) if outcome is Outcome.CORRECT]
        self._right = next((answer for answer in right if answer is not None), None)
        undecided = (Outcome.WRONG, Outcome.UNPARSED)
        self.left = list(
            dict.fromkeys(
                answer for answer, outcome in zip(answers, outcomes) if answer is not None and outcome in undecided
            )
        )
        """Wrong answers that are in no group yet."""

    def pairs(self) -> list[tuple[str, str]]:
        """Responses to compare next: each that is left with the first, which begins a group."""
        return [(self._example[answer], self._example[self.left[0]]) for answer in self.left[1:]]

    def sort(self, same: Sequence[bool]) -> None:
        """Group the first with those that were found to mean the same."""
        first, *others = self.left
        self._vote_of[first] = first
        self._vote_of.update((answer, first) for answer, is_same in zip(others, same, strict=True) if is_same)
        self.left = [answer for answer in others if answer not in self._vote_of]

    def votes(self) -> list[str | None]:
        """[responses] the answer that each votes for, as its group's first response wrote it; None has no vote."""
        return [
            self._right if outcome is Outcome.CORRECT else answer and self._vote_of.get(answer, answer)
            for answer, outcome in zip(self._answers, self._outcomes)
        ]


def count_votes(ballots: Sequence[Ballot], equivalent: Equivalent) -> list[list[str | None]]:
    """The votes of each problem, all problems compared together: as many rounds as one has different answers."""
    while open_ballots := [ballot for ballot in ballots if ballot.left]:
        pairs = [ballot.pairs() for ballot in open_ballots]
        same = iter(equivalent([pair for some in pairs for pair in some]))
        for ballot, some in zip(open_ballots, pairs):
            ballot.sort([next(same) for _ in some])
    return [ballot.votes() for ballot in ballots]
