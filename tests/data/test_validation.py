import json
import math

import pytest

from fipo.config import Source
from fipo.data.rows import Reason, Row, RowError
from fipo.data.validation import to_problem


def check(record, *, demonstration=False, refusal=lambda *item: "", **columns):
    source = Source(uri="unused", **columns)
    row = Row(1, record)
    return to_problem(row, source, "file", refusal=refusal, demonstration=demonstration)


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


@pytest.mark.parametrize(
    "columns, row, text",
    [
        ("{Body}. {Question}", {"Body": "Ann has 3 pens", "Question": "How many?"}, "Ann has 3 pens. How many?"),
        ("{q.stem} {n}", {"q": {"stem": "Which of"}, "n": 2}, "Which of 2"),
        ("{q}\n{o}", {"q": "What?", "o": ["0", "4"]}, "What?\n(A) 0\n(B) 4"),
        ("{q}\n{o}", {"q": "What?", "o": ["A)5", "B)6"]}, "What?\nA)5\nB)6"),
        ("{q}\n{o}", {"q": "What?", "o": [{"label": "1", "text": "one"}]}, "What?\n(1) one"),
        ("{q}\n{o}", {"q": "What?", "o": {"text": ["one", "two"], "label": ["A", "B"]}}, "What?\n(A) one\n(B) two"),
        ("{q}\n{o}", {"q": "What?", "o": {"A": "one", "B": 2, "C": None}}, "What?\n(A) one\n(B) 2"),
        ("{q}\n{o}", {"q": "What?", "o": [str(n) for n in range(30)]}, "What?\n" + "\n".join(map(str, range(30)))),
    ],
)
def test_a_prompt_of_several_columns(columns, row, text):
    """SVAMP, CommonsenseQA, MMLU, AQuA, ARC: a question alone cannot be answered."""
    assert check(row | {"answer": "A"}, prompt_column=columns, grader="choice").prompt == text


def test_a_prompt_that_lacks_one_of_its_columns_is_none():
    assert reason({"question": "How many?", "answer": "3"}, prompt_column="{body} {question}") == Reason.NO_PROMPT


def test_options_are_lettered_where_letters_are_the_answers():
    assert check({"q": "Which?", "o": ["5", "6"], "answer": "5"}, prompt_column="{q}\n{o}").prompt == "Which?\n5\n6"


def test_a_system_message_stays_with_the_prompt():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    assert check({"prompt": messages, "answer": 2}).prompt == "Be brief.\n\n1 + 1?"


@pytest.mark.parametrize(
    ("answer", "text"), [(7, "7"), (-0.5, "-0.5"), (10**400, str(10**400)), (r"\frac12", r"\frac12")]
)
def test_answers_may_be_numbers(answer, text):
    assert check({"prompt": "p", "answer": answer}).answer == text


@pytest.mark.parametrize(
    ("answer", "grader", "text"),
    [
        (r"Hence $x = \boxed{\frac{1}{1+\sqrt{2}}}$, as asked.", "math", r"\frac{1}{1+\sqrt{2}}"),
        (r"\boxed{6 \text{ or } 7}", "exact", r"6 \text{ or } 7"),
        (r"def check(f): assert f() == '\boxed{7}'", "tests", r"def check(f): assert f() == '\boxed{7}'"),
        ('["\\\\frac{7}{8}"]', "math", r"\frac{7}{8}"),
        ('["a"]', "exact", '["a"]'),
        ("[7]", "math", "[7]"),
        (0, "choice", "A"),
        (25, "choice", "Z"),
        (26, "choice", "26"),
        (1, "math", "1"),
    ],
)
def test_answers_as_the_field_writes_them(answer, grader, text):
    assert check({"prompt": "p", "answer": answer}, grader=grader).answer == text


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([{"from": "human", "value": "a"}], "begins with {from, value}"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], "begins with {role, content}"),
        (["a"], "begins with str"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "response_column"),
    ],
)
def test_a_chat_of_another_form_is_refused_with_what_arrived(prompt, words):
    with pytest.raises(RowError) as refused:
        check({"prompt": prompt, "answer": "1"})
    assert words in refused.value.detail


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


def test_the_grader_has_the_last_word():
    def refusal(grader, answer, columns):
        return f"{grader}: {answer} {columns}"

    with pytest.raises(RowError) as caught:
        check({"prompt": "p", "answer": "see above", "year": 2024}, refusal=refusal, grader="exact", columns=("year",))
    assert (caught.value.reason, caught.value.detail) == (Reason.UNVERIFIABLE, 'exact: see above {"year": 2024}')


def test_an_endless_answer_never_reaches_the_verifier():
    def parse_for_minutes(*item):
        raise AssertionError

    assert reason({"prompt": "p", "answer": "1+" * 5000}, refusal=parse_for_minutes) == Reason.UNVERIFIABLE


def test_a_problem_carries_its_grader_and_what_it_reads():
    row = {"prompt": "p", "answer": "B", "options": ["3", "4"], "meta": {"year": 2024}, "other": 1}
    problem = check(row, grader="choice", columns=("options", "meta.year"))
    assert (problem.grader, json.loads(problem.columns)) == ("choice", {"options": ["3", "4"], "meta.year": 2024})
    assert (check(row).grader, check(row).columns) == ("math", "{}")


def test_a_column_that_the_grader_reads_must_be_there():
    with pytest.raises(RowError) as caught:
        check({"prompt": "p", "answer": "1"}, grader="mine:grade", columns=("year",))
    assert (caught.value.reason, caught.value.detail) == (
        Reason.NO_COLUMN,
        "no column 'year', which grader mine:grade reads",
    )


def test_tests_may_be_long_lists_and_bring_their_columns():
    lines = ["assert f(1) == 1"] * 200
    row = {"prompt": "p", "test_list": lines, "test_imports": ["import math"], "test_setup_code": "", "code": "def f"}
    problem = check(row, answer_column="test_list", grader="tests")
    assert json.loads(problem.answer) == lines
    assert json.loads(problem.columns) == {"test_imports": ["import math"]}


def test_a_grader_of_ones_own_takes_any_reference():
    assert json.loads(check({"prompt": "p", "answer": {"low": 1, "high": 3}}, grader="mine:grade").answer) == {
        "low": 1,
        "high": 3,
    }
    assert reason({"prompt": "p", "answer": {"low": 1}}) == Reason.NOT_TEXT


def test_demonstrations_are_required_only_for_the_warm_up():
    assert check({"prompt": "p", "answer": "1"}).response == ""
    assert reason({"prompt": "p", "answer": "1"}, demonstration=True) == Reason.NO_RESPONSE
