import math

import pytest

from fipo.config import Source
from fipo.data.sources import Reason, Row, RowError
from fipo.data.validation import to_problem


def check(record, *, demonstration=False, accepts_answer=lambda answer: True, **columns):
    source = Source(uri="unused", **columns)
    row = Row(1, record)
    return to_problem(row, source, "file", accepts_answer=accepts_answer, demonstration=demonstration)


def reason(record, **options):
    with pytest.raises(RowError) as caught:
        check(record, **options)
    return caught.value.reason


def test_dapo_math_17k_layout():
    problem = check(
        {
            "data_source": "math_dapo",
            "prompt": [{"content": "In triangle $ABC$ ...", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b6eb4-a1cb-49d1-8c1e-62eaf2f74079"},
        }
    )
    assert (problem.prompt, problem.answer, problem.source) == ("In triangle $ABC$ ...", "34", "math_dapo")


def test_columns_reach_into_structs():
    record = {"task": {"text": " 1 + 1? "}, "gold": {"value": 2}, "full.solution": "It is 2."}
    columns = {"prompt_column": "task.text", "answer_column": "gold.value", "response_column": "full.solution"}
    problem = check(record, demonstration=True, **columns)
    assert (problem.prompt, problem.answer, problem.response, problem.source) == ("1 + 1?", "2", "It is 2.", "file")


def test_a_system_message_stays_with_the_prompt():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    assert check({"prompt": messages, "answer": 2}).prompt == "Be brief.\n\n1 + 1?"


@pytest.mark.parametrize(
    ("answer", "text"), [(7, "7"), (-0.5, "-0.5"), (10**400, str(10**400)), (r"\frac12", r"\frac12")]
)
def test_answers_may_be_numbers(answer, text):
    assert check({"prompt": "p", "answer": answer}).answer == text


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_missing_answers(answer):
    assert reason({"prompt": "p", "answer": answer}) == Reason.NO_ANSWER
    assert reason({"prompt": "p"}) == Reason.NO_ANSWER


@pytest.mark.parametrize("answer", [True, math.nan, math.inf, ["7", "8"], {"value": 7}, b"7"])
def test_answers_of_other_types(answer):
    assert reason({"prompt": "p", "answer": answer}) == Reason.NOT_TEXT


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, Reason.NO_PROMPT),
        ("\t", Reason.NO_PROMPT),
        (12, Reason.NOT_TEXT),
        ("half a pair \ud800", Reason.NOT_UNICODE),
        (["text"], Reason.NOT_TEXT),
        ([{"role": "user", "content": None}], Reason.NOT_TEXT),
        ([], Reason.NO_PROMPT),
        ([{"role": "user", "content": " "}], Reason.NO_PROMPT),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], Reason.NO_PROMPT),
    ],
)
def test_prompts_that_are_none(prompt, expected):
    assert reason({"prompt": prompt, "answer": "1"}) == expected


def test_the_verifier_has_the_last_word():
    assert reason({"prompt": "p", "answer": "see above"}, accepts_answer=str.isdigit) == Reason.UNVERIFIABLE


def test_an_endless_answer_never_reaches_the_verifier():
    def parse_for_minutes(answer):
        raise AssertionError

    assert reason({"prompt": "p", "answer": "1+" * 5000}, accepts_answer=parse_for_minutes) == Reason.UNVERIFIABLE


def test_demonstrations_are_required_only_for_the_warm_up():
    assert check({"prompt": "p", "answer": "1"}).response == ""
    assert reason({"prompt": "p", "answer": "1"}, demonstration=True) == Reason.NO_RESPONSE
