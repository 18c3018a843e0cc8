"""`fipo init` on rows in the layouts in which the field publishes them: the right question, the right answer, the right
grader."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fipo.check import check
from fipo.config import Source, load_config
from fipo.data.rows import Row
from fipo.data.sources import read_rows
from fipo.data.validation import to_problem
from fipo.errors import ConfigError, DataError
from fipo.init import init
from fipo.init.rows import look_at_data

LETTERS = "ABCD"
TINY = "model={architecture: {vocabulary: [a, b]}}"


def rows(make, count=24):
    return [make(n) for n in range(count)]


def options(n):
    return [str(n + m) for m in range(4)]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


LAYOUTS = {
    "MATH": (
        lambda n: {
            "problem": f"Halve {n}.",
            "level": f"Level {n % 5}",
            "solution": f"So $\\boxed{{\\frac{{{n}}}{{2}}}}$.",
        },
        ("problem", "solution", "solution", "math"),
        ("Halve 3.", r"\frac{3}{2}"),
    ),
    "Skywork-OR1": (
        lambda n: {
            "prompt": [{"role": "user", "content": f"Double {n}."}],
            "reward_model": {"ground_truth": json.dumps([str(2 * n)]), "style": "rule"},
            "extra_info": {"answer": f"It is certainly {2 * n}."},
        },
        ("prompt", "reward_model.ground_truth", "", "math"),
        ("Double 3.", "6"),
    ),
    "MMLU": (
        lambda n: {"question": f"{n} + {n % 4}?", "subject": "sums", "choices": options(n), "answer": n % 4},
        ("{question}\n{choices}", "answer", "", "choice"),
        ("3 + 3?\n(A) 3\n(B) 4\n(C) 5\n(D) 6", "D"),
    ),
    "MedQA": (
        lambda n: {
            "question": f"{n} + {n % 4}?",
            "answer": options(n)[n % 4],
            "options": dict(zip(LETTERS, options(n), strict=True)),
            "answer_idx": LETTERS[n % 4],
        },
        ("{question}\n{options}", "answer_idx", "", "choice"),
        ("3 + 3?\n(A) 3\n(B) 4\n(C) 5\n(D) 6", "D"),
    ),
    "OpenBookQA": (
        lambda n: {
            "question_stem": f"{n} + {n % 4} is",
            "choices": {"text": options(n), "label": [*LETTERS] if n else [*"1234"]},
            "answerKey": LETTERS[n % 4] if n else "1",
        },
        ("{question_stem}\n{choices}", "answerKey", "", "choice"),
        ("3 + 3 is\n(A) 3\n(B) 4\n(C) 5\n(D) 6", "D"),
    ),
    "AQuA": (
        lambda n: {
            "question": f"{n} + {n % 4}?",
            "options": [f"{one}){of}" for one, of in zip(LETTERS, options(n), strict=True)],
            "rationale": f"Count on from {n}.",
            "correct": LETTERS[n % 4],
        },
        ("{question}\n{options}", "correct", "rationale", "choice"),
        ("3 + 3?\nA)3\nB)4\nC)5\nD)6", "D"),
    ),
    "C-Eval": (
        lambda n: {
            "id": n,
            "question": f"{n} + {n % 4} = ____",
            **dict(zip(LETTERS, options(n), strict=True)),
            "answer": LETTERS[n % 4],
            "explanation": f"Count on from {n}.",
        },
        ("{question}\n(A) {A}\n(B) {B}\n(C) {C}\n(D) {D}", "answer", "explanation", "choice"),
        ("3 + 3 = ____\n(A) 3\n(B) 4\n(C) 5\n(D) 6", "D"),
    ),
    "MedMCQA": (
        lambda n: {
            "question": f"{n} + {n % 4}?",
            **dict(zip(("opa", "opb", "opc", "opd"), options(n), strict=True)),
            "cop": n % 4,
            "choice_type": "single",
            "subject_name": f"sums {n % 5}",
        },
        ("{question}\n(A) {opa}\n(B) {opb}\n(C) {opc}\n(D) {opd}", "cop", "", "choice"),
        ("3 + 3?\n(A) 3\n(B) 4\n(C) 5\n(D) 6", "D"),
    ),
    "PIQA": (
        lambda n: {"goal": f"Add {n % 2} to {n}.", "sol1": f"{n}", "sol2": f"{n + 1}", "label": n % 2},
        ("{goal}\n(A) {sol1}\n(B) {sol2}", "label", "", "choice"),
        ("Add 1 to 3.\n(A) 3\n(B) 4", "B"),
    ),
    "HellaSwag": (
        lambda n: {
            "activity_label": "adding",
            "ctx_a": f"{n} + {n % 4}",
            "ctx": f"{n} + {n % 4} is",
            "endings": options(n),
            "split_type": "zeroshot",
            "label": str(n % 4),
        },
        ("{ctx}\n{endings}", "label", "", "choice"),
        ("3 + 3 is\n(A) 3\n(B) 4\n(C) 5\n(D) 6", "D"),
    ),
    "ASDiv": (
        lambda n: {
            "body": f"Ann has {n} pens.",
            "question": f"She buys {n} more. How many are these?",
            "solution_type": ["Addition", "Sum"][n % 2],
            "answer": f"{2 * n} (pens)",
        },
        ("{body}\n{question}", "answer", "", "math"),
        ("Ann has 3 pens.\nShe buys 3 more. How many are these?", "6 (pens)"),
    ),
    "GAOKAO, options in some": (
        lambda n: {
            "content": f"2 * {n} =",
            "answer": f"{2 * n}",
            **({} if n % 3 else {"choice_answer": LETTERS[n % 4]}),
        },
        ("content", "answer", "", "math"),
        ("2 * 3 =", "6"),
    ),
    "OlympiadBench": (
        lambda n: {"question": f"Triple {n}.", "solution": [f"It is {3 * n}."], "final_answer": [f"${3 * n}$"]},
        ("question", "final_answer", "", "math"),
        ("Triple 3.", "$9$"),
    ),
    "APPS": (
        lambda n: {
            "question": f"Print {n} more.",
            "solutions": "[]",
            "input_output": json.dumps({"inputs": ["1\n"], "outputs": [f"{n + 1}\n"]}),
        },
        ("question", "input_output", "", "tests"),
        ("Print 3 more.", '{"inputs": ["1\\n"], "outputs": ["4\\n"]}'),
    ),
    "MBPP": (
        lambda n: {"text": f"Add {n}.", "code": f"f = lambda x: x + {n}", "test_list": [f"assert f(1) == {n + 1}"]},
        ("{text}\nThe program must pass these tests:\n{test_list}", "test_list", "", "tests"),
        ("Add 3.\nThe program must pass these tests:\nassert f(1) == 4", "assert f(1) == 4"),
    ),
    "HumanEval": (
        lambda n: {
            "prompt": f"def f(x):\n    '''Add {n}.'''",
            "canonical_solution": f"    return x + {n}",
            "entry_point": "f",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
        },
        ("prompt", "test", "", "tests"),
        ("def f(x):\n    '''Add 3.'''", "def check(candidate):\n    assert candidate(1) == 4"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_right_question_answer_and_grader(tmp_path, layout, kind):
    make, columns, (question, answer) = LAYOUTS[layout]
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        write(path, rows(make))
    else:
        pq.write_table(pa.Table.from_pylist(rows(make)), path)
    found = look_at_data(path)
    assert (found.prompt_column, found.answer_column, found.response_column, found.grader) == columns
    init(tmp_path / "mine", data=path, machine="laptop")
    config = load_config(tmp_path / "mine" / "recipe.yaml", [TINY, "data.chat=false"])
    [source] = config.data.train
    problem = to_problem([*read_rows(source)][3], source, "", refusal=lambda *_: "", demonstration=False)
    assert (problem.prompt, problem.answer) == (question, answer)
    asked = {"math": r"answer into \boxed{}", "choice": r"letter of the right option into \boxed{}", "tests": "Python"}
    assert asked[found.grader] in config.data.prompt_template
    findings = {one.check: one for one in check(config)[0]}
    assert findings["data.train[0]"].status in ("ok", "warning") and "data.benchmarks.benchmark" in findings


@pytest.mark.parametrize(
    "ending", ["\nPut the answer after ####.", '\nEnd with "Answer: …".', "\nPut the answer into \\boxed{}."]
)
def test_problems_that_say_how_to_answer_are_asked_as_they_are(tmp_path, ending):
    told = rows(lambda n: {"prompt": f"Double {n}.{ending}", "answer": 2 * n})
    assert look_at_data(write(tmp_path / "told.jsonl", told)).prompt_template == "{prompt}"
    one_of_them = [{**row, "prompt": row["prompt"].removesuffix(ending)} for row in told[1:]] + told[:1]
    assert r"\boxed{}" in look_at_data(write(tmp_path / "untold.jsonl", one_of_them)).prompt_template


@pytest.mark.parametrize(
    "counted",
    [
        lambda n: {"question": f"{n} + {n % 4}?", "choices": options(n), "answer": 1 + n % 4},
        lambda n: {
            "sentence": f"{n} is _.",
            "option1": "odd",
            "option2": "even",
            "answer": str(2 - n % 2),
        },  # WinoGrande
    ],
)
def test_options_may_be_counted_from_one(tmp_path, counted):
    path = write(tmp_path / "rows.jsonl", rows(counted))
    init(tmp_path / "mine", data=path, machine="laptop")
    [source] = load_config(tmp_path / "mine" / "recipe.yaml", [TINY, "data.chat=false"]).data.train
    problem = to_problem([*read_rows(source)][2], source, "", refusal=lambda *_: "", demonstration=False)
    assert (source.grader, source.answers_from) == ("choice", 1)
    assert problem.answer == ("C" if "2 + 2" in problem.prompt else "B")  # the third of 2 to 5; even


TEN = [f"{n} or so" for n in range(10)]


@pytest.mark.parametrize(
    ("make", "columns"),
    [
        (
            lambda n: {"question": f"{n}?", "options": TEN, "answer": n % 10},
            ("{question}\n{options}", "answer", "choice"),
        ),
        (
            lambda n: {"question": f"{n}?", "options": ["3", "1", "0", "2"], "answer": str(n % 4)},
            ("{question}\n{options}", "answer", "math"),  # always the words of one
        ),
        (lambda n: {"question": f"{n}?", "op1": n, "op2": 2 * n, "answer": n % 2}, ("question", "answer", "math")),
        (
            lambda n: {"problem": f"{n}?", "sol1": f"It is {n}.", "sol2": f"Or {n}.", "answer": 1 + n % 2},
            ("problem", "answer", "math"),
        ),
        (
            lambda n: {
                "question": f"{n}?",
                "A": "a",
                "B": "b",
                "C": "c",
                "D": None if n % 9 else "d",
                "answer": "ABC"[n % 3],
            },
            ("{question}\n(A) {A}\n(B) {B}\n(C) {C}", "answer", "choice"),
        ),
        (
            lambda n: {
                "question": f"{n}?",
                "options": options(n),
                "answer": f"{n}",
                **({"answer_idx": LETTERS[n % 4]} if n else {}),
            },
            ("{question}\n{options}", "answer_idx", "choice"),
        ),
        (
            lambda n: {
                "question": f"{n}?",
                "options": options(n),
                "his_answer": LETTERS[n % 4],
                "her_answer": f"{n} cm",
            },
            ("{question}\n{options}", "his_answer", "choice"),
        ),
        (
            lambda n: {"goal": f"{n}.", "problem": f"{n}?", "sol1": "a" if n else None, "sol2": "b", "answer": n % 3},
            ("problem", "answer", "math"),
        ),
        (
            lambda n: {"math_question": f"{n}?", "content_type": f"t{n}", "answer": n},
            ("math_question", "answer", "math"),
        ),
    ],
)
def test_what_looks_like_options_and_is_none_and_what_is(tmp_path, make, columns):
    found = look_at_data(write(tmp_path / "rows.jsonl", rows(make)))
    assert (found.prompt_column, found.answer_column, found.grader) == columns


def test_numbers_of_options_are_for_the_grader_of_choices_alone():
    with pytest.raises(ValueError, match="answers_from: must be null unless the grader is choice"):
        Source(uri="rows.jsonl", answers_from=1)


def test_sentences_without_options_are_no_problems(tmp_path):
    path = write(tmp_path / "rows.jsonl", rows(lambda n: {"sentence": f"Film {n}.", "label": n % 2}))
    with pytest.raises(ConfigError, match="no column of more than one text is named as the prompt usually is"):
        look_at_data(path)


def test_a_solution_to_two_phrasings_is_a_demonstration(tmp_path):
    twice = rows(lambda n: {"problem": f"{n}?", "solution": f"It is {n // 4}.", "answer": n // 4})
    assert look_at_data(write(tmp_path / "rows.jsonl", twice)).response_column == "solution"


def test_numbers_beside_columns_of_one_letter_are_numbers(tmp_path):
    sums = rows(lambda n: {"question": f"What is {n % 2} + {n % 3}?", "a": n % 2, "b": n % 3, "answer": n % 2 + n % 3})
    found = look_at_data(write(tmp_path / "rows.jsonl", sums))
    assert (found.prompt_column, found.grader) == ("question", "math")


@pytest.mark.parametrize(
    ("answer", "first", "letter"),
    [("1", None, "1"), ("1", 0, "B"), ("1", 1, "A"), (1, None, "B"), (1, 1, "A"), ("C", 0, "C")],
)
def test_numbers_of_options_are_letters(answer, first, letter):
    record = Row(1, {"prompt": "2?\n(A) 1\n(B) 2", "answer": answer})
    source = Source(uri="rows.jsonl", grader="choice", answers_from=first)
    assert to_problem(record, source, "", refusal=lambda *_: "", demonstration=False).answer == letter


def test_several_columns_may_be_named_for_the_prompt(tmp_path):
    path = write(tmp_path / "rows.jsonl", rows(lambda n: {"a": f"{n}", "b": {"c": f"+ {n}"}, "answer": 2 * n}))
    assert look_at_data(path, {"prompt": "{a} {b.c}"}).prompt_column == "{a} {b.c}"
    with pytest.raises(ConfigError, match=r"--prompt-column: .* no column 'z'"):
        look_at_data(path, {"prompt": "{a} {z}"})


def test_a_folder_of_shards_or_of_datasets_is_one_data_set(tmp_path):
    records = rows(lambda n: {"question": f"Double {n}.", "answer": 2 * n}, 40)
    (tmp_path / "shards").mkdir()
    write(tmp_path / "shards" / "a.jsonl", records[:20])
    write(tmp_path / "shards" / "b.jsonl", records[20:])
    datasets.Dataset.from_list(records).save_to_disk(tmp_path / "saved")
    for folder in ("shards", "saved"):
        found = look_at_data(tmp_path / folder)
        assert (found.prompt_column, found.answer_column, len(found.benchmark)) == ("question", "answer", 4)


def test_rows_that_are_lists_are_refused_with_what_arrived(tmp_path):
    (tmp_path / "orz.json").write_text(json.dumps([[{"from": "human", "value": f"{n}?"}] for n in range(9)]))
    with pytest.raises(DataError, match="no row of it can be read: line 1: not a JSON object, list"):
        look_at_data(tmp_path / "orz.json")
