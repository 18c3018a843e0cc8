"""Demonstrations are graded before they are learned from, and may be given the ending that graders read."""

import json

import pytest

from fipo.data.demonstrations import Demonstrations
from fipo.data.prepare import prepare
from fipo.data.schema import read_problems
from fipo.errors import DataError
from fipo.rewards.pool import GraderPool


@pytest.fixture(scope="module")
def graders():
    with GraderPool(1, timeout_seconds=5.0) as pool:
        yield pool


@pytest.fixture
def prepared(configure, tokenizer, tmp_path, graders):
    """Prepare demonstrations, each given as (response, answer); returns the manifest's tally and the responses."""

    def prepared(given, most=0.1, **source):
        rows = [
            {"prompt": f"Question {n}?", "response": response, "answer": answer}
            for n, (response, answer) in enumerate(given)
        ]
        config = configure([{"prompt": "Other?", "answer": "1"}], sft=rows, sft_steps=1, max_wrong_demonstrations=most)
        [first] = config.data.sft
        config = config.model_copy(
            update={"data": config.data.model_copy(update={"sft": (first.model_copy(update=source),)})}
        )
        demonstrations = Demonstrations(graders, config.data.max_wrong_demonstrations)
        folder = tmp_path / "prepared"
        prepare(
            config, tokenizer, folder, refusal=lambda *_: "", demonstrations=demonstrations, progress=lambda *_: None
        )
        manifest = json.loads((folder / "manifest.json").read_text())
        [tally] = [one for one in manifest["sources"] if one["set"] == "sft"]
        return tally, [problem.response for problem in read_problems(folder / "sft.parquet")]

    return prepared


RIGHT = [(f"It is \\boxed{{{n}}}", str(n)) for n in range(18)]


def test_what_the_grader_cannot_read_is_refused_with_examples(prepared):
    solutions = [(f"He has {n} + 1 apples.\n=> {n + 1:,} <=", str(n + 1)) for n in range(2000, 2020)]
    with pytest.raises(DataError) as caught:
        prepared(solutions)
    said = str(caught.value)
    assert "20 unparsed" in said and "max_wrong_demonstrations = 0.1" in said and "`ending: boxed`" in said
    assert said.count("line ") == 3 and "=> 2,001 <=" in said and "He has 2000 + 1" in said


def test_a_few_that_are_wrong_are_said_and_kept(prepared, capsys, tmp_path):
    card = tmp_path / "prepared" / "data-card.md"
    tally, responses = prepared([*RIGHT, ("\\boxed{1}", "2"), ("I do not know", "3")])
    assert tally["demonstrations"] == {"correct": 18, "wrong": 1, "unparsed": 1}
    assert len(responses) == 20
    assert "sft.jsonl | 18 correct, 1 unparsed, 1 wrong |" in card.read_text()
    said = capsys.readouterr().out
    assert "of 20 demonstrations" in said and "line 19 is wrong" in said and "line 20 is unparsed" in said


def test_the_share_is_a_setting(prepared):
    with pytest.raises(DataError, match="1 wrong"):
        prepared([*RIGHT, ("\\boxed{1}", "2")], most=0.05)


def test_the_ending_is_rewritten_into_a_box(prepared):
    solutions = [
        ("48/2 = <<48/2=24>>24.\n#### 72", "some steps\n#### 72"),
        ("no mark at all", "#### 3"),
        ("as it was: \\boxed{4}", "#### 4"),
    ]
    tally, responses = prepared(solutions, ending="boxed", answer_after="####")
    assert responses == [
        "48/2 = <<48/2=24>>24.\n\\boxed{72}",
        "no mark at all\n\\boxed{3}",
        "as it was: \\boxed{4}",
    ]
    assert tally["demonstrations"] == {"correct": 3}
