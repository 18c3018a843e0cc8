"""The verdicts on a response; apart from `fipo.batch` so that verifier processes start without torch."""

from enum import StrEnum


class Outcome(StrEnum):
    """What the verifier found. `timeout` is no verdict: such responses are masked from the loss."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    TIMEOUT = "timeout"
