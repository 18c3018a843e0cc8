import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup
from fipo.config import Architecture, Model
from fipo.errors import DataError
from fipo.evaluation.benchmark import evaluate
from fipo.evaluation.parts import Parts
from fipo.evaluation.results import BenchmarkResult
from fipo.evaluation.tables import PROBLEMS_SCHEMA, RESPONSES_SCHEMA, read_result, write_result
from fipo.models import load_tokenizer
from fipo.outcome import Grade
from fipo.records import Evaluated
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.run.result import StepResult

TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=("0", "1", "2", "think"))))

# What is said to each problem, in words; "<cut>" stands for a response that reached the limit.
SCRIPT = {
    "p0": ["1", "think 1", "0", "think think"],  # two right, one wrong, one without an answer
    "p1": ["2", "2", "0", "<cut> think think think"],  # right half of the time, and by majority
    "p2": ["0", "0", "1", "0"],  # right once, outvoted
}
PROMPTS = [
    Prompt(id=f"p{index}", text=f"problem {index}", token_ids=(2,), answer=answer, source="bench")
    for index, answer in enumerate("121")
]
SAMPLING = Sampling(group_size=4, max_response_tokens=8)


class ScriptedEngine(RolloutEngine):
    """Says what the script says and remembers what it was asked; fails on the problem `breaks_at`."""

    def __init__(self, breaks_at: str = "") -> None:
        self.asked: list[str] = []
        self.breaks_at = breaks_at

    def generate(self, prompts, sampling, progress=None, on_group=None):
        groups = []
        for prompt in prompts:
            if prompt.id == self.breaks_at:
                raise KeyboardInterrupt
            self.asked.append(prompt.id)
            groups.append(RolloutGroup(prompt, tuple(_rollout(text) for text in SCRIPT[prompt.id])))
            if progress:
                progress(len(groups) * sampling.group_size, len(prompts) * sampling.group_size)
            on_group(groups[-1])
        return groups

    def load_weights(self, source, version):
        raise NotImplementedError

    def close(self):
        pass


def _rollout(text: str) -> Rollout:
    cut = text.startswith("<cut>")
    ids = TOKENIZER(text.removeprefix("<cut>"))["input_ids"] + ([] if cut else [TOKENIZER.eos_token_id])
    reason = FinishReason.LENGTH if cut else FinishReason.STOP
    return Rollout(np.array(ids, np.int32), np.zeros(len(ids), np.float32), reason, 0)


class LastWord:
    """The last word is the answer, if it is a digit, and only equal digits mean the same."""

    def grade(self, items: Sequence[tuple[str, str, str, str]]) -> list[Grade]:
        return [self._grade(response.split()[-1], answer) for _, response, answer, _ in items]

    def _grade(self, last: str, answer: str) -> Grade:
        if not last.isdigit():
            return Grade(Outcome.UNPARSED, explanation="no digit")
        return Grade(Outcome.CORRECT if last == answer else Outcome.WRONG, last)

    def equivalent(self, grader: str, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [False for _ in pairs]


def run(engine=None, prompts=PROMPTS, **settings) -> BenchmarkResult:
    return evaluate(
        "bench",
        prompts,
        engine or ScriptedEngine(),
        sampling=SAMPLING,
        tokenizer=TOKENIZER,
        graders=LastWord(),
        **settings,
    )


def test_summary_by_hand():
    summary = run().scores()
    assert (summary.benchmark, summary.k, summary.problems) == ("bench", 4, 3)
    assert summary.avg_at_k.value == pytest.approx((2 / 4 + 2 / 4 + 1 / 4) / 3)
    assert summary.cons_at_k.value == pytest.approx((1 + 1 + 0) / 3)
    assert summary.pass_at_k.value == 1.0
    # Tokens with the stop token: 2 3 2 3, 2 2 2 3, 2 2 2 2.
    assert summary.mean_response_tokens == pytest.approx(27 / 12)
    assert summary.response_tokens.max == 3 and summary.response_tokens.median == 2
    assert summary.truncation_rate == pytest.approx(1 / 12)
    assert summary.outcomes == pytest.approx({"correct": 5 / 12, "wrong": 5 / 12, "unparsed": 2 / 12, "timeout": 0})
    assert summary.avg_at_k.low <= summary.avg_at_k.value <= summary.avg_at_k.high


def test_scores_are_stored_with_their_intervals_and_read_back():
    summary = run().scores()
    record = json.loads(json.dumps(asdict(Evaluated({"bench": summary}, contaminated={"bench": 1}))))
    assert StepResult("evaluate", "f" * 64, 1.0, record=record).read(Evaluated).trained == {"bench": summary}
    assert summary.response_tokens.q75 == 2.25
    scores = {"avg_at_k": 5 / 12, "cons_at_k": 2 / 3, "pass_at_k": 1.0, "mean_response_tokens": 27 / 12}
    assert summary.values() == pytest.approx(scores)


def test_problems_hold_what_was_said():
    problem = run().problems[1]
    assert (problem.problem, problem.answer, problem.correct, problem.truncated) == ("problem 1", "2", 2, 1)
    assert problem.majority == ("2", 0.5)
    assert [response.text for response in problem.responses] == ["2", "2", "0", "think think think"]
    assert [response.answer for response in problem.responses] == ["2", "2", "0", None]
    assert problem.responses[3].outcome is Outcome.UNPARSED and problem.responses[3].explanation == "no digit"


def test_tables_have_the_schema_and_read_back(tmp_path):
    result = run()
    responses, problems = write_result(result, tmp_path)
    assert pq.read_schema(responses).equals(RESPONSES_SCHEMA)
    assert pq.read_schema(problems).equals(PROBLEMS_SCHEMA)
    assert pq.read_table(problems).column("cons_at_k").to_pylist() == [1.0, 1.0, 0.0]
    assert read_result(responses) == result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench-problems.parquet", "bench-responses.parquet"]


def test_tables_of_earlier_versions_read_back(tmp_path):
    responses, _ = write_result(run(), tmp_path)
    table = pq.read_table(responses)
    pq.write_table(table.drop_columns("explanation"), responses)
    old = read_result(responses)
    assert [one.explanation for one in old.problems[1].responses] == [""] * 4
    assert old.scores() == run().scores()


@pytest.mark.parametrize("content", [b"", b"not parquet"])
def test_reading_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "bench-responses.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bench-responses.parquet: expected a table of responses"):
        read_result(path)


def test_reading_another_table_names_its_columns(tmp_path):
    pq.write_table(pa.table({"colour": ["red"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"expected the columns id, problem.*found colour"):
        read_result(tmp_path / "other.parquet")


def test_a_stopped_evaluation_samples_only_what_is_missing(tmp_path):
    parts = Parts(tmp_path / "parts", key="weights-1")
    with pytest.raises(KeyboardInterrupt):
        run(ScriptedEngine(breaks_at="p2"), kept=parts, kept_together=1)
    engine, seen = ScriptedEngine(), []
    resumed = run(engine, kept=parts, kept_together=1, progress=lambda done, total: seen.append((done, total)))
    assert engine.asked == ["p2"]
    assert resumed == run()
    assert seen == [(12, 12)]


def test_parts_of_other_weights_are_not_taken_over(tmp_path):
    run(kept=Parts(tmp_path, key="weights-1"))
    engine = ScriptedEngine()
    run(engine, kept=Parts(tmp_path, key="weights-2"))
    assert engine.asked == ["p0", "p1", "p2"]


def test_a_damaged_part_is_answered_again(tmp_path, capsys):
    run(kept=Parts(tmp_path, key="weights-1"), kept_together=1)
    damaged, *_ = sorted(tmp_path.glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    engine = ScriptedEngine()
    assert run(engine, kept=Parts(tmp_path, key="weights-1"), kept_together=1) == run()
    assert len(engine.asked) == 1
    assert f"{damaged}: " in capsys.readouterr().err


def test_an_interrupted_write_is_no_part(tmp_path):
    (tmp_path / ".deadbeef.parquet.17").write_bytes(b"PAR1")
    assert Parts(tmp_path, key="weights-1").read() == {}


def test_shards_merge_to_the_whole(tmp_path):
    # Two ranks share the folder of parts, and a third run with other ranks uses what they left.
    parts = Parts(tmp_path, key="weights-1")
    shards = [run(prompts=PROMPTS[rank::2], kept=parts) for rank in (0, 1)]
    order = [prompt.id for prompt in PROMPTS]
    assert BenchmarkResult.merge(reversed(shards), order) == run()
    engine = ScriptedEngine()
    assert [run(engine, prompts=PROMPTS[rank::3], kept=parts).problems[0].id for rank in range(3)] == order
    assert engine.asked == []


def test_a_missing_shard_is_noticed():
    with pytest.raises(DataError, match="1 of 3 problems were not evaluated, the first is p1"):
        BenchmarkResult.merge([run(prompts=PROMPTS[::2])], [prompt.id for prompt in PROMPTS])


def test_progress_counts_responses_over_all_parts():
    seen = []
    run(kept_together=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 12), (8, 12), (12, 12)]


def test_no_problems_and_equal_problems_are_refused():
    with pytest.raises(DataError, match="benchmark bench: no problems"):
        run(prompts=[])
    with pytest.raises(DataError, match="ids must differ; 1 occur again, such as p0"):
        run(prompts=[*PROMPTS, replace(PROMPTS[0], text="again")])
