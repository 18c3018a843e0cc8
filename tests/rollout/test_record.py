"""The rollout record: nothing of a step is lost on the way to parquet."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score, TokenTrace
from fipo.config import Architecture, Model
from fipo.models import load_tokenizer
from fipo.rollout.record import SCHEMA, record_table, sample_rows, store_record
from fipo.rollout.texts import TokenTexts
from fipo.storage import open_store


def group(prompt_id, *responses):
    rollouts = tuple(
        Rollout(
            np.array(tokens, dtype=np.int32),
            np.array([-0.1 * token for token in tokens], dtype=np.float32),
            FinishReason.STOP if tokens[-1] == 1 else FinishReason.LENGTH,
            weight_version=7,
        )
        for tokens, _ in responses
    )
    scores = tuple(
        Score(Outcome.CORRECT, 1.0, reward, {"accuracy": 1.0, "overlong": reward - 1.0}) for _, reward in responses
    )
    return RolloutGroup(Prompt(prompt_id, f"problem {prompt_id}", (5, 6), "12", "demo"), rollouts, scores)


TRAINED = replace(group("aa", ([2, 3, 1], 1.0), ([2, 2], 0.5)), advantages=(1.0, -1.0))
GROUPS = [TRAINED, group("bb", ([4, 1], 1.0)), replace(TRAINED, prompt=replace(TRAINED.prompt, draw=1), advantages=())]


TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=("a", "b", "c"))))
TEXTS = TokenTexts(TOKENIZER)
SEEN = np.array([[1.0, 1.1, 0.9], [0.0, 0.1, -0.1], [0.0, 0.2, -0.1], [0.5, 0.4, 0.3], [0.0, 1e-5, -1e-5]], np.float16)
TRACES = {("aa", 0, 0): TokenTrace(3, *SEEN)}


def test_each_response_is_a_row(tmp_path):
    store_record(record_table(12, GROUPS, TRACES, TEXTS), open_store(tmp_path.as_uri()), "rollouts", 12)
    table = pq.read_table(tmp_path / "rollouts" / "step-000012.parquet")
    assert table.schema.equals(SCHEMA)
    first, second, third, *again = table.to_pylist()
    assert first == {
        "step": 12,
        "prompt_id": "aa",
        "draw": 0,
        "source": "demo",
        "problem": "problem aa",
        "answer": "12",
        "prompt_token_ids": [5, 6],
        "response_index": 0,
        "token_ids": [2, 3, 1],
        "rollout_log_probs": np.array([-0.2, -0.3, -0.1], dtype=np.float32).tolist(),
        "response_mask": None,
        "finish_reason": "stop",
        "weight_version": 7,
        "weight_versions": None,
        "environment": "",
        "grader": "math",
        "outcome": "correct",
        "explanation": "",
        "accuracy": 1.0,
        "reward": 1.0,
        "reward_components": [("accuracy", 1.0), ("overlong", 0.0)],
        "advantage": 1.0,
        "prompt": TOKENIZER.decode([5, 6]),
        "response": TOKENIZER.decode([2, 3, 1]),
        "token_characters": [1, 2, len(f" {TOKENIZER.decode([1])}")],
        "response_tokens": 3,
        "update": 3,
        **dict(zip(("influence_weights", "future_kl", "log_ratio", "entropy", "mismatch"), SEEN.tolist())),
    }
    assert second["update"] is second["entropy"] is None, "it was not learned from"
    assert (second["response_index"], second["advantage"], second["finish_reason"]) == (1, -1.0, "length")
    assert third["advantage"] is None
    assert [(row["prompt_id"], row["draw"], row["advantage"]) for row in again] == [("aa", 1, None)] * 2


def test_the_sample_can_be_read():
    sample = sample_rows(record_table(12, GROUPS, {}, TEXTS), TOKENIZER)
    shown = [(row["response"], row["tokens"], row["advantage"], row["problem"]) for row in sample]
    assert shown == [("a b", 3, 1.0, "problem aa"), ("a a", 2, -1.0, "problem aa")]
    assert sample_rows(record_table(12, GROUPS, {}, TEXTS), TOKENIZER, responses=1) == sample[:1]
    twice = record_table(12, [GROUPS[2], GROUPS[0]], {}, TEXTS)
    assert len(sample_rows(twice, TOKENIZER)) == 2, "one draw of a prompt is one group"


def test_a_response_of_several_versions_says_which_sampled_each_token(tmp_path):
    rollout = replace(GROUPS[1].rollouts[0], later_versions=np.array([7, 9]))
    record = record_table(12, [replace(GROUPS[1], rollouts=(rollout,))], {}, TEXTS)
    assert record["weight_version"].to_pylist() == [7] and record["weight_versions"].to_pylist() == [[7, 9]]
