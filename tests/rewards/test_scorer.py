"""Overlong shaping and the scores of groups."""

import numpy as np
import pytest

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup
from fipo.config import Architecture, Model, Reward
from fipo.models import load_tokenizer
from fipo.rewards.overlong import overlong_penalty
from fipo.rewards.scorer import Scorer

MODULE = """
from fipo.rewards.graders import grade

def patient(response, reference, columns):
    while "^" in response: pass
    return grade("math", response, reference, columns)
"""


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, 0.0), (16384, 0.0), (17408, -0.25), (18432, -0.5), (20479, -4095 / 4096), (20480, -1.0)],
)
def test_the_penalty_grows_over_the_buffer(tokens, expected):
    assert overlong_penalty(tokens, max_response_tokens=20480, buffer_tokens=4096, penalty=1.0) == expected
    assert overlong_penalty(tokens, max_response_tokens=20480, buffer_tokens=4096, penalty=0.5) == expected / 2
    assert overlong_penalty(tokens, max_response_tokens=20480, buffer_tokens=0, penalty=1.0) == 0.0


def test_groups_are_scored_by_outcome_and_length(tmp_path, monkeypatch):
    (tmp_path / "scorer_graders.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    tokenizer = load_tokenizer(Model(architecture=Architecture(vocabulary=("1", "2", r"\boxed{", "}", "^{"))))
    texts = [
        r"1 \boxed{ 1 } <end>",
        r"2 1 \boxed{ 2 } <end>",
        "1 2 1 2 1 2 1 2",
        r"\boxed{ 2 ^{ 2 ^{ 2 ^{ 2 ^{ 2 ^{ 2 } } } } } } <end>",
    ]
    prompt = Prompt("a", "", (1,), "1", grader="scorer_graders:patient")
    group = RolloutGroup(prompt, tuple(_rollout(tokenizer, text) for text in texts))
    settings = Reward(overlong_buffer_tokens=4, overlong_penalty=0.5, timeout_seconds=1.0)
    with Scorer(settings, max_response_tokens=8, tokenizer=tokenizer) as scorer:
        (graded,) = scorer.score([group])
    outcomes = [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSED, Outcome.TIMEOUT]
    assert [score.outcome for score in graded.scores] == outcomes
    assert [score.accuracy for score in graded.scores] == [1.0, 0.0, 0.0, 0.0]
    # 5, 6 and 8 tokens, of which 4 are free, at 0.5 / 4 each; the one without a verdict is worth nothing.
    assert [score.reward for score in graded.scores] == [0.875, -0.25, -0.5, 0.0]


def test_a_response_is_shaped_against_the_end_of_the_models_context_where_that_comes_first():
    tokenizer = load_tokenizer(Model(architecture=Architecture(vocabulary=("1", "2"))))
    settings = Reward(functions={"overlong": 1.0}, overlong_buffer_tokens=4)
    prompt = Prompt("a", "", (1, 1, 1), "1")
    group = RolloutGroup(prompt, tuple(_rollout(tokenizer, "1 " * tokens) for tokens in (5, 7, 9)))
    with Scorer(settings, max_response_tokens=20, tokenizer=tokenizer, context=12) as scorer:
        (graded,) = scorer.score([group])
    # Nine of twelve tokens are left, the last four of them are the buffer.
    assert [score.reward for score in graded.scores] == [0.0, -0.5, -1.0]


def _rollout(tokenizer, text):
    ids = np.array(tokenizer(text)["input_ids"], dtype=np.int32)
    return Rollout(ids, np.zeros(len(ids), dtype=np.float32), FinishReason.STOP, 0)
