"""The second rule for verdicts: it compares texts, whatever the verifier makes of them."""

import numpy as np
import pytest

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, Sample, Score
from fipo.rewards.math import extract_answer, verify
from fipo.rewards.second_opinion import disagrees
from fipo.training.rl.records import disagreements


def sample(response, reference, *, grader="math", outcome=None):
    outcome = outcome or verify(response, reference)
    rollout = Rollout(np.zeros(1, np.int32), np.zeros(1, np.float32), FinishReason.STOP, 0)
    score = Score(outcome, 0.0, 0.0, answer=extract_answer(response))
    return Sample(Prompt("p", "How many?", (1,), reference, grader=grader), 0, rollout, score, None)


@pytest.mark.parametrize(
    ("response", "reference", "disagree"),
    [
        (r"\boxed{12}", "12", False),
        (r"\boxed{13}", "12", False),
        ("I do not know", "12", False),
        (r"\boxed{\frac12}", "0.5", False),
        (r"\boxed{x+1}", "1+x", True),
        (r"\boxed{\sqrt{8}}", r"2\sqrt{2}", True),
    ],
)
def test_texts_are_compared_and_nothing_is_computed(response, reference, disagree):
    assert disagrees(sample(response, reference)) is disagree


def test_a_verifier_that_reads_too_freely_is_noticed():
    fooled = sample(r"\boxed{1=2}", "x^2+4x+20=0", outcome=Outcome.CORRECT)
    assert disagrees(fooled)
    rows = disagreements(7, [fooled, sample(r"\boxed{12}", "12"), fooled])
    assert rows == [{"step": 7, "problem": "How many?", "answer": "x^2+4x+20=0", "given": "1=2", "outcome": "correct"}]


@pytest.mark.parametrize("about", [{"grader": "exact"}, {"outcome": Outcome.TIMEOUT}])
def test_other_graders_and_missing_verdicts_have_no_second_opinion(about):
    assert disagrees(sample(r"\boxed{12}", "12", **about)) is None
