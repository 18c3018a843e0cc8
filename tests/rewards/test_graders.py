"""Graders: each judges by its rule, one's own by a function; what is none is named, and drives nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup
from fipo.check import require
from fipo.config import Architecture, Model, Reward, load_config
from fipo.errors import ConfigError, RewardError
from fipo.models import load_tokenizer
from fipo.outcome import Grade
from fipo.rewards.functions import Response, find
from fipo.rewards.graders import grade, refusal
from fipo.rewards.notice import grading_notice
from fipo.rewards.pool import GraderPool, Item
from fipo.rewards.sandbox.client import Limits, Sandbox
from fipo.rewards.sandbox.confinement import Isolation
from fipo.rewards.scorer import Scorer

MODULE = """
import sys, time
from fipo.outcome import Grade, Outcome

def nearest(response, reference, columns):
    words = response.split()
    if not words:
        return Grade(Outcome.UNPARSED)
    off = abs(float(words[-1]) - float(reference)) / columns["scale"]
    return Grade(Outcome.CORRECT if off == 0 else Outcome.WRONG, words[-1], max(0.0, 1 - off), f"off by {off:g}")

def years(response, reference, columns):
    return Grade(Outcome(["wrong", "correct"][int(reference) > 1900]))

def truth(response, reference, columns): return True
def above(response, reference, columns): return Grade(Outcome.CORRECT, score=2.0)
def broken(response, reference, columns): raise KeyError("no luck")
def endless(response, reference, columns):
    while response: time.sleep(1)
    return Grade(Outcome.WRONG)
class Half:
    item = lambda self: 0.5  # as numbers of numpy and torch have it
def of_numpy(response, reference, columns): return Grade("correct", "7", Half(), "half \\ud800")
def as_bytes(response, reference, columns): return Grade(Outcome.CORRECT, b"7")
def as_number(response, reference, columns): return Grade(Outcome.CORRECT, 7)
def unexplained(response, reference, columns): return Grade(Outcome.CORRECT, explanation=None)
def half(response, reference, columns): return Grade(Outcome.CORRECT, score="0.5")
def lost(response, reference, columns): return Grade(Outcome.CORRECT, score=float("nan"))
def great(response, reference, columns): return Grade("great")
def leaves(response, reference, columns): sys.exit(0)
async def later(response, reference, columns): return Grade(Outcome.CORRECT)
number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """A module in the working directory, where workers look first."""
    (tmp_path / "my_graders.py").write_text(MODULE)
    (tmp_path / "my_broken.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        (r"\boxed{B}", "B", "correct"),
        (r"\boxed{\text{(b)}}", "B", "correct"),
        ("Answer: B", "(B)", "correct"),
        ("Answer: (C) 5", "C", "correct"),
        ("Answer: D) the fourth", "D", "correct"),
        (r"\boxed{C, A}", "A,C", "correct"),
        (r"\boxed{A \text{ and } C}", "A, C", "correct"),
        (r"\boxed{AC}", "A, C", "correct"),
        (r"\boxed{A, C}", "AC", "correct"),
        (r"\boxed{C}", "B", "wrong"),
        (r"\boxed{A}", "A, C", "wrong"),
        (r"\boxed{ABCD}", "B", "wrong"),
        (r"\boxed{BAD}", "B", "unparsed"),
        (r"\boxed{A, B, C, D}", "B", "wrong"),
        (r"\boxed{A/B}", "B", "wrong"),
        (r"Answer: (A) 3, (B) 4", "A", "unparsed"),
        (r"Answer: B or A", "B", "unparsed"),
        (r"Answer: A cat", "A", "unparsed"),
        (r"\boxed{42}", "B", "unparsed"),
        ("It could be A or B.", "A", "unparsed"),
    ],
)
def test_choices_are_compared_by_their_letters(answer, reference, outcome):
    assert grade("choice", answer, reference, {}).outcome == outcome


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        (r"\boxed{left}", "left", "correct"),
        (r"\boxed{ left }", "left ", "correct"),
        (r"\boxed{1/2}", "0.5", "correct"),
        (r"\boxed{right}", "left", "wrong"),
        (r"\boxed{x+1}", "1+x", "wrong"),
        ("left", "left", "unparsed"),
    ],
)
def test_texts_are_compared_as_texts(answer, reference, outcome):
    assert grade("exact", answer, reference, {}).outcome == outcome


def test_programs_are_judged_by_their_tests():
    lines = json.dumps(["assert double(2) == 4", "assert double(-1) == -2"])
    right = grade("tests", "So:\n```python\ndef double(x):\n    return 2 * x\n```\nDone.", lines, {})
    assert right == Grade(Outcome.CORRECT, "passes", 1.0, "passed all 2 tests")
    half = grade("tests", "```python\ndef double(x):\n    return x ** 2\n```", lines, {})
    assert (half.outcome, half.score) == (Outcome.WRONG, 0.5)
    assert half.explanation == "test 2 of 2: wrong answer: gave 1, expected -2"
    assert grade("tests", "I do not know.```", lines, {}).outcome is Outcome.UNPARSED


@pytest.mark.parametrize(
    ("name", "reference", "reason"),
    [
        ("math", "12", ""),
        ("math", "", "reference answer ''"),
        ("exact", "left", ""),
        ("exact", " ", "there is nothing in it"),
        ("choice", "(C)", ""),
        ("choice", "A, B", ""),
        ("choice", "42", "expected a letter"),
        ("tests", '["assert f(1) == 1"]', ""),
        ("tests", '["x = f(1)"]', "expected an assert line"),
        ("tests", '{"inputs": ["1"], "outputs": [""]}', "an empty program passes"),
        ("tests", "def f(x): pass", "expected an assert line"),
        ("my_graders:nearest", "3.5", ""),
        ("my_graders:years", "MCM", "ValueError: invalid literal"),
        ("my_graders:truth", "1", "must give a fipo.outcome.Grade; gave bool"),
        ("my_graders:above", "1", "a score must be from 0 to 1, or None; gave 2.0"),
        ("my_graders:broken", "1", "KeyError: 'no luck'"),
        ("my_graders:number", "1", "must be a function; found int"),
        ("my_graders:none", "1", "has no attribute 'none'"),
        ("my_broken:f", "1", "No module named 'no_such_library'"),
        ("no_such_module:f", "1", "No module named 'no_such_module'"),
    ],
)
def test_a_reference_must_be_one_for_its_grader(name, reference, reason):
    found = refusal(name, reference, {"scale": 10})
    assert reason in found and bool(found) == bool(reason)


def test_graders_of_ones_own_run_in_the_pool():
    with GraderPool(1, timeout_seconds=1.0) as pool:
        columns = json.dumps({"scale": 10})
        items = [Item("my_graders:nearest", text, "5", columns) for text in ("it is 5", "7", "")]
        assert pool.grade(items) == [
            Grade(Outcome.CORRECT, "5", 1.0, "off by 0"),
            Grade(Outcome.WRONG, "7", 0.8, "off by 0.2"),
            Grade(Outcome.UNPARSED),
        ]
        endless, right = pool.grade([Item("my_graders:endless", "x", "1"), Item("math", r"\boxed{1}", "1")])
        assert (endless.outcome, endless.explanation) == (Outcome.TIMEOUT, "not graded in time")
        assert right.outcome is Outcome.CORRECT
        with pytest.raises(RewardError, match="grader my_graders:broken: KeyError: 'no luck'"):
            pool.grade([Item("my_graders:broken", "x", "1")])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("as_bytes", "answer must be text; gave bytes"),
        ("as_number", "answer must be text; gave int"),
        ("unexplained", "explanation must be text; gave NoneType"),
        ("half", "a score must be from 0 to 1, or None; gave '0.5'"),
        ("lost", "a score must be from 0 to 1, or None; gave nan"),
        ("great", "an outcome must be one of correct, wrong, unparsed, timeout; gave 'great'"),
        ("leaves", "SystemExit: 0"),
        ("later", "must give a fipo.outcome.Grade; gave coroutine"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_is_no_grade_is_said_at_once(name, words):
    with pytest.raises(RewardError, match=re.escape(f"grader my_graders:{name}: {words}")):
        grade(f"my_graders:{name}", "x", "1", {})


def test_a_grade_of_other_types_goes_through_the_pool():
    with GraderPool(1, timeout_seconds=5.0) as pool:
        [found] = pool.grade([Item("my_graders:of_numpy", "x", "1")])
        assert found == Grade(Outcome.CORRECT, "7", 0.5, "half ?")
        with pytest.raises(RewardError, match="answer must be text"):
            pool.grade([Item("my_graders:as_bytes", "x", "1")])


TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=("1", "5", "7", r"\boxed{", "}", "print(", ")"))))


def group(grader, answer, columns, *texts):
    ids = [np.array(TOKENIZER(text)["input_ids"], dtype=np.int32) for text in texts]
    rollouts = tuple(Rollout(one, np.zeros(len(one), dtype=np.float32), FinishReason.STOP, 0) for one in ids)
    return RolloutGroup(Prompt(answer, "", (1,), answer, grader=grader, columns=columns), rollouts)


def test_each_prompt_is_scored_by_its_own_grader():
    groups = [
        group("math", "5", "{}", r"\boxed{ 5 }", "5"),
        group("my_graders:nearest", "5", '{"scale": 4}', r"\boxed{ 5 }"[-1:] + " 5", "7"),
        group("tests", '{"inputs": ["", ""], "outputs": ["5", "5"]}', "{}", "print( 5 )", "print( 7 )"),
    ]
    reward = Reward(functions={"accuracy": 0.0, "partial": 1.0})
    with Scorer(reward, max_response_tokens=8, tokenizer=TOKENIZER) as scorer:
        scores = [one.scores for one in scorer.score(groups)]
    assert [[score.accuracy for score in own] for own in scores] == [[1.0, 0.0]] * 3
    assert [[score.reward for score in own] for own in scores] == [[1.0, 0.0], [1.0, 0.5], [1.0, 0.0]]
    assert scores[1][1].explanation == "off by 0.5"
    assert scores[2][0].explanation == "passed all 2 tests"
    assert scores[2][1].explanation == "test 1 of 2: wrong answer: printed '7\\n', expected '5'"


def test_long_references_are_shortened_where_they_are_shown():
    assert group("tests", "x" * 1000, "{}").prompt.shown_answer == "x" * 1000
    assert group("tests", "x" * 1001, "{}").prompt.shown_answer == "x" * 1000 + "…"


PAGE = Path(__file__).resolve().parents[2] / "docs" / "graders.md"
SNIPPETS = re.findall(r"```(yaml|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", [code for language, code in SNIPPETS if language == "yaml"])
def test_the_pages_recipes_are_read(tmp_path, snippet):
    (tmp_path / "recipe.yaml").write_text(f"extends: demo\n{snippet}")
    assert load_config(str(tmp_path / "recipe.yaml")).data.sources


PYTHON = [code for language, code in SNIPPETS if language == "python"]


def test_the_pages_functions_of_other_trainers_are_called(tmp_path):
    (tmp_path / "their_verl.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
        "    return {'score': 1}['score'] if solution_str.endswith(ground_truth) else -1\n"
    )
    (tmp_path / "their_trl.py").write_text(
        "def format_reward(completions, solution, **others):\n"
        "    texts = [chat[0]['content'] for chat in completions]\n"
        "    return [None if not text else 0.5 for text, _ in zip(texts, solution, strict=True)]\n"
    )
    for code in PYTHON[1:]:
        (tmp_path / code.split()[1].strip(":")).write_text(code)
    assert grade("my_verl:scored", "It is 7", "7", {}) == Grade(Outcome.CORRECT, score=1.0)
    assert grade("my_verl:scored", "It is 8", "7", {}) == Grade(Outcome.WRONG, score=0.0)
    formatted = find("my_trl:formatted", {})
    seen = [Response(Prompt("a", "", (1,), "7"), text, 1, FinishReason.STOP, Outcome.WRONG) for text in ("x", "")]
    assert [formatted(one) for one in seen] == [0.5, 0.0]


def test_the_pages_grader_grades(tmp_path):
    code = PYTHON[0]
    (tmp_path / "page_grader.py").write_text(code)
    found = grade("page_grader:nearest", "about 7", "5", {"scale": 10})
    assert found == Grade(Outcome.WRONG, "7", 0.8, "off by 0.2")
    assert refusal("page_grader:nearest", "5", {"scale": 10}) == ""


def rows(tmp_path, *records):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def with_grader(path, grader, columns=()):
    source = {"uri": path, "grader": grader, "columns": list(columns)}
    return load_config("demo", [f"data.train={json.dumps([source])}"])


def test_graders_are_called_before_anything_else(tmp_path):
    path = rows(tmp_path, *({"prompt": f"{n}", "answer": str(n), "scale": 1} for n in range(4)))
    require(with_grader(path, "my_graders:nearest", ["scale"]), ["prepare"])
    for grader, columns, reason in [
        ("my_graders:broken", ["scale"], "it takes none: row 1: grader my_graders:broken: KeyError: 'no luck'"),
        ("my_graders:truth", [], "must give a fipo.outcome.Grade; gave bool"),
        ("my_broken:f", [], "No module named 'no_such_library'"),
        ("my_graders:nearest", ["year"], f"data.train[0].columns.0: {path} has no column 'year'; there are prompt"),
        ("tests", [], "row 1: grader tests: tests: "),
        ("choice", [], "row 1: grader choice: reference answer '0': expected a letter"),
    ]:
        with pytest.raises(ConfigError) as caught:
            require(with_grader(path, grader, columns), ["prepare"])
        assert "data.train[0]." in str(caught.value)
        assert reason in str(caught.value)


def test_one_row_that_a_grader_refuses_is_only_a_row(tmp_path):
    path = rows(tmp_path, {"prompt": "3", "answer": "MCM"}, {"prompt": "4", "answer": "1900"})
    require(with_grader(path, "my_graders:years"), ["prepare"])


def test_each_step_imports_its_graders_first(tmp_path):
    path = rows(tmp_path, {"prompt": "p", "answer": "1"})
    assert grading_notice(with_grader(path, "my_graders:years")) == ""
    with pytest.raises(ConfigError, match=r"data\.train\[0\]\.grader: grader 'my_broken:f' cannot be imported"):
        grading_notice(with_grader(path, "my_broken:f"), "data.train")
    assert grading_notice(with_grader(path, "my_broken:f"), "data.benchmarks") == ""


def test_isolation_is_said_and_can_be_required(tmp_path, monkeypatch):
    path = rows(tmp_path, {"prompt": "p", "answer": "1"})
    assert grading_notice(with_grader(path, "math")) == ""
    with Sandbox(Limits()) as sandbox:
        assert str(sandbox.isolation) in grading_notice(with_grader(path, "tests"))
    assert grading_notice(with_grader(path, "tests"), "data.benchmarks") == ""
    required = load_config(
        "demo",
        [
            f"data.train={json.dumps([{'uri': path, 'grader': 'tests'}])}",
            "reward.sandbox.require_isolation=true",
        ],
    )
    monkeypatch.setattr(Sandbox, "_receive", _without_namespaces(Sandbox._receive))
    assert "namespaces are refused (not here)" in grading_notice(with_grader(path, "tests"))
    with pytest.raises(ConfigError, match=r"reward\.sandbox\.require_isolation: must have namespaces and seccomp; on "):
        grading_notice(required)


def _without_namespaces(receive):
    def refuse(self):
        if self._modes[0] == "all":
            raise OSError("not here")
        return receive(self)

    return refuse


@pytest.mark.parametrize(
    ("isolation", "complete", "words"),
    [
        (Isolation(True, True, False), True, "namespaces, seccomp, limits"),
        (Isolation(True, False, False), False, "namespaces, limits"),
        (Isolation(False, True, True), False, "seccomp, Landlock, limits"),
        (Isolation(False, False, False), False, "limits"),
    ],
)
def test_complete_isolation_is_all_of_it(isolation, complete, words):
    assert (isolation.is_complete, str(isolation)) == (complete, words)
