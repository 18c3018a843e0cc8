"""A second rule for mathematical verdicts, independent of the first: equal texts are right, others are wrong.

It knows nothing of mathematics, so it misses answers that are only written otherwise, and no formula can talk it into
anything. Where the share of verdicts that it would not have given moves while a policy trains, the policy may have
found what the verifier reads too freely.
"""

from __future__ import annotations

from functools import lru_cache

from fipo.batch import Sample
from fipo.outcome import Outcome
from fipo.rewards.math import extract_answer


def disagrees(sample: Sample) -> bool | None:
    """Whether texts alone would have given another verdict; None where no mathematical verdict was given."""
    prompt, score = sample.prompt, sample.score
    if prompt.grader != "math" or sample.rollout.grade or score.outcome is Outcome.TIMEOUT:
        return None
    same = score.answer is not None and score.answer == _text(prompt.answer)
    return same != (score.outcome is Outcome.CORRECT)


@lru_cache(maxsize=4096)
def _text(reference: str) -> str | None:
    return extract_answer(rf"\boxed{{{reference}}}")
