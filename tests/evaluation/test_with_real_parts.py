"""The benchmark runner with the engine and the verifier of real runs."""

import pytest

from fipo.batch import Outcome, Prompt
from fipo.config import Architecture, Model
from fipo.evaluation.benchmark import evaluate
from fipo.evaluation.parts import Parts
from fipo.evaluation.results import BenchmarkResult
from fipo.evaluation.tables import read_result, write_result
from fipo.models import load_model, load_tokenizer
from fipo.rewards.pool import GraderPool
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine

MODEL = Model(
    architecture=Architecture(
        vocabulary=("0", "1", "Add", "\\boxed{", "}"),
        hidden_size=16,
        intermediate_size=32,
        layers=1,
        attention_heads=2,
        key_value_heads=2,
    )
)
TOKENIZER = load_tokenizer(MODEL)
PROMPTS = [
    Prompt(f"{index:064x}", text, tuple(TOKENIZER(text)["input_ids"]), str(index % 2))
    for index, text in enumerate(("Add 0 0", "Add 0 1", "Add 1 1 1", "Add 1", "Add 0 1 0 1"))
]


@pytest.fixture(scope="module")
def run():
    engine = TransformersEngine(
        load_model(MODEL, seed=1),
        eos_token_id=TOKENIZER.eos_token_id,
        pad_token_id=TOKENIZER.pad_token_id,
        max_batch_tokens=2048,
    )
    with GraderPool(workers=1, timeout_seconds=5.0) as verifier:
        yield lambda prompts, **settings: evaluate(
            "sums",
            prompts,
            engine,
            sampling=Sampling(group_size=16, max_response_tokens=6),
            tokenizer=TOKENIZER,
            graders=verifier,
            **settings,
        )


def test_random_weights_are_graded_like_any_others(run, tmp_path):
    result = run(PROMPTS)
    for problem in result.problems:
        for response in problem.responses:
            if response.answer is None or len(response.answer) == 1:
                assert (response.outcome is Outcome.CORRECT) == (response.answer == problem.answer)
            assert 1 <= response.tokens <= 6
    summary = result.scores()
    assert sum(summary.outcomes.values()) == pytest.approx(1.0)
    assert 0 < summary.avg_at_k.value < 0.2  # a lucky box now and then
    responses, _ = write_result(result, tmp_path)
    assert read_result(responses) == result


def test_sharding_and_resuming_change_nothing(run, tmp_path):
    whole = run(PROMPTS)
    parts = Parts(tmp_path, key="weights")
    run(PROMPTS[:2], kept=parts, kept_together=1)
    shards = [run(PROMPTS[rank::2], kept=parts, kept_together=1) for rank in range(2)]
    assert BenchmarkResult.merge(shards, [prompt.id for prompt in PROMPTS]) == whole
