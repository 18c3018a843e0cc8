"""Steps in which no response is correct: told and counted, and only so many in a row end training."""

import re
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.config import Architecture, Model, load_config
from fipo.errors import TrainingError
from fipo.models import load_tokenizer
from fipo.tracking import read_journal
from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.signal import SignalWatch
from fipo.training.rl.state import RlState

TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=("a", "b", "c"))))
PROMPT = Prompt("0", "what is it?", (2,), "1")
CORRECT, WRONG, UNPARSED, TIMEOUT = Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSED, Outcome.TIMEOUT


class Job:
    def __init__(self):
        self.lines, self.metrics = [], []

    def say(self, line):
        self.lines.append(line)

    def log(self, metrics, step):
        self.metrics.append((step, metrics))


def batch(*responses, kept=(), advantages=()):
    """One group; each response is an outcome, and whether it was cut off."""
    reasons = [FinishReason.LENGTH if cut else FinishReason.STOP for _, cut in responses]
    words = [np.array([2 + index % 3], np.int32) for index in range(len(responses))]
    rollouts = tuple(Rollout(word, np.zeros(1, np.float32), reason, 0) for word, reason in zip(words, reasons))
    scores = tuple(Score(outcome, float(outcome is CORRECT), 0.0) for outcome, _ in responses)
    return RolloutBatch([RolloutGroup(PROMPT, rollouts, scores, tuple(advantages))], list(kept), 1, 7)


HOPELESS = batch((UNPARSED, True), (UNPARSED, True), (WRONG, True), (UNPARSED, False), (WRONG, False))


def watch(most):
    job: Any = Job()
    return job, SignalWatch(job, load_config("demo", [f"train.max_steps_without_signal={most}"]).train, TOKENIZER)


def test_a_hopeless_step_is_told_with_an_example_of_each_failure():
    job, signal = watch(20)
    signal.check(RlState().after(HOPELESS), HOPELESS)
    assert job.lines == [
        "warning: step 1: none of 5 responses is correct (60% truncated, 20% unparsed, 20% wrong); nothing is learned "
        "from it (1 in a row)",
        "  truncated: 'what is it?' -> 'a'",
        "  unparsed: 'what is it?' -> 'a'",
        "  wrong: 'what is it?' -> 'b'",
    ]
    assert job.metrics == [(1, {"train/steps_without_signal": 1.0})]


def test_examples_show_how_a_long_response_begins_and_ends():
    job, signal = watch(20)
    words = np.array([2] + [3] * 500 + [4], np.int32)
    rollout = Rollout(words, np.zeros(502, np.float32), FinishReason.LENGTH, 0)
    prompt = Prompt("0", "First of all, " + "blah " * 100 + "what is it?", (2,), "1")
    long = RolloutBatch([RolloutGroup(prompt, (rollout,), (Score(WRONG, 0.0, 0.0),))], [], 1, 502)
    signal.check(RlState().after(long), long)
    shown = job.lines[1]
    assert shown.startswith("  truncated: 'First of all, blah") and "what is it?' -> 'a b b" in shown
    assert shown.endswith(" b b c'") and shown.count(" characters …]") == 2 and len(shown) < 400


@pytest.mark.parametrize(
    ("responses", "advice"),
    [
        ([(UNPARSED, True), (WRONG, True), (UNPARSED, False)], "raise rollout.max_response_tokens"),
        ([(UNPARSED, False), (UNPARSED, False), (WRONG, False)], "teach the format"),
        ([(WRONG, False), (UNPARSED, False), (WRONG, False)], "warm up longer"),
        ([(TIMEOUT, False), (TIMEOUT, False), (WRONG, False)], "raise reward.timeout_seconds"),
    ],
)
def test_too_many_in_a_row_end_training_with_what_most_responses_lack(responses, advice):
    _, signal = watch(3)
    state, hopeless = RlState(), batch(*responses)
    for _ in range(2):
        state = state.after(hopeless)
        signal.check(state, hopeless)
    state = state.after(hopeless)
    with pytest.raises(TrainingError, match=rf"step 3: .*as in the 3 steps in a row.*{advice}"):
        signal.check(state, hopeless)


@pytest.mark.parametrize(
    "hope",
    [
        batch((CORRECT, False), (CORRECT, False)),
        batch((WRONG, False), (WRONG, False), (TIMEOUT, False), kept=[0], advantages=[0.7, -0.7, None]),
    ],
    ids=str,
)
def test_a_correct_response_or_something_to_learn_from_begins_the_count_again(hope):
    job, signal = watch(2)
    state = RlState()
    for one in (HOPELESS, hope, HOPELESS, hope):
        state = state.after(one)
        signal.check(state, one)
    assert [metrics["train/steps_without_signal"] for _, metrics in job.metrics] == [1, 0, 1, 0]


def test_without_dynamic_sampling_a_step_of_equal_rewards_is_without_signal_too():
    same = batch((WRONG, False), (WRONG, False), (TIMEOUT, False), kept=[0], advantages=[0.0, 0.0, None])
    assert RlState().after(same).after(same).steps_without_signal == 2


@pytest.mark.slow
def test_a_run_goes_on_over_hopeless_steps_and_keeps_their_responses(forked_run):
    # Two tokens are too few for an answer.
    hopeless = ("rollout.max_response_tokens=2", "distributed.processes=1", "train.max_steps_without_signal=3",
                "train.checkpoint_every=1", "train.max_generation_rounds=1")  # fmt: skip
    code, output = forked_run("train", "train.steps=2", *hopeless)
    assert code == 0, output
    assert "step 2/2" in output
    code, output = forked_run("train", *hopeless)  # the count continues where it was
    assert code == 65, output
    ended = r"step 3: none of 32 responses is correct \(.*truncated.*\), as in the 3 steps in a row"
    assert re.search(rf"TrainingError: {ended}.*raise rollout\.max_response_tokens", output), output
    logged = read_journal(forked_run.journal(*hopeless))
    name = "train/steps_without_signal"
    assert {step: metrics[name] for step, metrics in logged if name in metrics} == {1: 1, 2: 2, 3: 3}
    paths = (forked_run.folder / "objects").rglob("rollouts/*/step-*.parquet")
    tables = [pq.read_table(path) for path in paths]
    kept = [table for table in tables if {len(tokens) for tokens in table["token_ids"].to_pylist()} <= {1, 2}]
    assert sorted(table["step"][0].as_py() for table in kept) == [1, 2, 3]
    assert all(set(table["advantage"].to_pylist()) == {None} and len(table) == 32 for table in kept)
