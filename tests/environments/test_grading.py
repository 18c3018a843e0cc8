"""Who judges a response of several turns, by what of it, and what is counted and kept of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fipo.algorithm.loss import policy_loss
from fipo.algorithm.options import LossOptions
from fipo.batch import FinishReason, Outcome, PackedTokens, Prompt, Rollout, RolloutGroup, Score, TrainingBatch
from fipo.config import Reward
from fipo.evaluation.benchmark import evaluate
from fipo.outcome import Grade
from fipo.rewards.scorer import Scorer
from fipo.rewards.second_opinion import disagrees
from fipo.rollout.engine import Sampling
from fipo.rollout.record import record_table, sample_rows
from fipo.rollout.texts import TokenTexts
from fipo.training.rl.metrics import length_metrics, rollout_metrics
from fipo.training.rl.records import influence_record
from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.traces import seen, traces_of
from fipo.training.rows import Row, pack_rows
from tests.environments.talkers import Scripted

PROMPT = Prompt("p", "problem", (2, 3), "7", environment="python")
WON = Grade(Outcome.CORRECT, "7", 0.5, "won")


def rollout(words, text, observed=(), grade=None):
    """Of words; those at the places `observed` are the environment's."""
    ids = np.array(words[0](text).input_ids, np.int32)
    own = np.array([at not in observed for at in range(len(ids))])
    log_probs = np.where(own, -0.5, 0.0).astype(np.float32)
    return Rollout(ids, log_probs, FinishReason.STOP, 3, own if observed else None, grade)


@pytest.fixture
def group(words):
    """Right at last; right in the first turn, not in the last; the tool's answer; judged by the environment."""
    return RolloutGroup(
        PROMPT,
        (
            rollout(words, r"a <end> again \boxed{ 7 } <end>", observed=[2]),
            rollout(words, r"\boxed{ 7 } <end> again b <end>", observed=[4]),
            rollout(words, r"a <end> \boxed{ 7 } b <end>", observed=[2, 3, 4]),
            rollout(words, "b <end> higher a <end>", observed=[2], grade=WON),
        ),
    )


def test_the_last_turn_is_graded_unless_the_environment_has_judged(group, words):
    settings = Reward(functions={"accuracy": 1.0, "partial": 0.0, "overlong": 1.0}, overlong_buffer_tokens=4)
    with Scorer(settings, max_response_tokens=8, tokenizer=words[0]) as scorer:
        (graded,) = scorer.score([group])
    outcomes = [Outcome.CORRECT, Outcome.UNPARSED, Outcome.UNPARSED, Outcome.CORRECT]
    assert [score.outcome for score in graded.scores] == outcomes
    assert graded.scores[3].explanation == "won" and graded.scores[3].components["partial"] == 0.5
    # The limit counts observations, so the penalty does: 7, 7, 7 and 5 tokens, of which 4 are free.
    assert [score.components["overlong"] for score in graded.scores] == [-0.75, -0.75, -0.75, -0.25]
    assert [disagrees(sample) for sample in graded.samples] == [False, False, False, None]


def test_evaluation_judges_alike_and_shows_all_that_was_said(group, words):
    class Given(Scripted):
        def generate(self, prompts, sampling, progress=None, on_group=None):
            on_group(group)
            return [group]

    class Graders:
        def __init__(self):
            self.asked = []

        def grade(self, items):
            self.asked += items
            return [Grade(Outcome.CORRECT if "7" in item[1] else Outcome.UNPARSED) for item in items]

        def equivalent(self, grader, pairs):
            return [False] * len(pairs)

    graders = Graders()
    result = evaluate("b", [PROMPT], Given(None), sampling=Sampling(4, 8), tokenizer=words[0], graders=graders)
    assert [item[1] for item in graders.asked] == [r"\boxed{ 7 }", "b", "b"]
    [problem] = result.problems
    outcomes = [Outcome.CORRECT, Outcome.UNPARSED, Outcome.UNPARSED, Outcome.CORRECT]
    assert [one.outcome for one in problem.responses] == outcomes
    assert [one.tokens for one in problem.responses] == [6, 6, 4, 4]
    assert problem.responses[0].text == r"a again \boxed{ 7 }" and problem.responses[3].explanation == "won"


def scored(group):
    grades = [Outcome.CORRECT, Outcome.UNPARSED, Outcome.UNPARSED, Outcome.CORRECT]
    scores = tuple(Score(one, float(one is Outcome.CORRECT), 0.0) for one in grades)
    return replace(group.graded(scores), advantages=(1.0, -1.0, None, 1.0))


def test_what_is_counted_are_the_models_own_tokens(group):
    batch = RolloutBatch([scored(group)], [0], 1, 1)
    metrics = rollout_metrics(batch, 3)
    assert batch.sampled_tokens == 6 + 6 + 4 + 4 == metrics["rollout/sampled_tokens"]
    assert metrics["train/loss_tokens"] == 6 + 6 + 4
    assert metrics["rollout/response_tokens_max"] == 6 and metrics["rollout/response_tokens_mean"] == 5
    assert metrics["rollout/turns_mean"] == 2 and metrics["rollout/observation_tokens_mean"] == (1 + 1 + 3 + 1) / 4
    plain = replace(group, prompt=replace(PROMPT, environment=""))
    assert not {name for name in length_metrics("rollout", [plain]) if "turns" in name or "observation" in name}


def test_the_record_holds_the_mask(group, words):
    table = record_table(4, [scored(group)], {}, TokenTexts(words[0]))
    first, *_, last = table.to_pylist()
    assert first["response_mask"] == [True, True, False, True, True, True, True] and first["environment"] == "python"
    assert len(last["rollout_log_probs"]) == len(last["token_ids"]) == 5 and last["rollout_log_probs"][2] == 0
    assert json.dumps(sample_rows(table, words[0])[0]["response"]) == json.dumps(r"a again \boxed{ 7 }")


def test_the_influence_of_a_response_with_turns_is_shown_whole(group, words):
    tokens: PackedTokens = pack_rows(
        [Row(PROMPT.token_ids, one.token_ids, one.response_mask) for one in group.rollouts[:1]], 0
    )
    shape = tokens.input_ids.shape
    sample = scored(group).samples[0]
    batch = TrainingBatch(
        tokens, torch.ones(shape), torch.zeros(shape), torch.full(shape, 0.25), torch.zeros(shape), samples=(sample,)
    )
    moved, options = batch.old_log_probs + 0.05, LossOptions(half_life=1.0)
    output = policy_loss(
        options, moved, batch.old_log_probs, batch.advantages, tokens.response_mask, have_observations=True
    )
    traces = traces_of(batch, seen(output, torch.full(shape, 2.0), batch), update=1)
    [trace] = traces.values()
    assert trace.update == 1 and trace.entropy.tolist() == [2.0] * 6 and trace.mismatch.tolist() == [0.25] * 6
    found = influence_record(sample, trace, TokenTexts(words[0]))
    assert found["prompt"] == "a b" and found["tokens"] == ["a", " <end>", " again", r" \boxed{", " 7", " }", " <end>"]
    # gamma = 1/2 and six own tokens that moved by 0.05: 0.1 (1 - 2^-n) with n tokens left; the observation has 1 and 0.
    expected = [0.1 * (1 - 0.5**left) for left in (6, 5, 0, 4, 3, 2, 1)]
    assert found["future_kl"] == pytest.approx(expected, abs=1e-4)  # half precision
    assert found["influence_weights"][2] == 1.0 and found["log_ratio"][2] == 0.0
    assert found["influence_weights"] == pytest.approx(np.exp(expected), abs=1e-3)
    row = record_table(4, [scored(group)], traces, TokenTexts(words[0])).to_pylist()[0]
    assert (
        np.isnan(row["influence_weights"][2]) and row["influence_weights"][:2] == trace.influence_weights[:2].tolist()
    )
    assert row["response_tokens"] == 6 and row["update"] == 1
