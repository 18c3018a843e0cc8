"""The verdicts on a response; apart from `fipo.batch` so that verifier processes start without torch."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What the verifier found. `timeout` is no verdict: such responses are masked from the loss."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader says of one response."""

    outcome: Outcome
    answer: str | None = None
    """What was answered, spelling normalised: equal texts are one vote in cons@k. None: there is no answer."""
    score: float | None = None
    """The share that is right, 0 to 1, where a grader knows more than right or wrong."""
    explanation: str = ""
    """For the record: why."""
