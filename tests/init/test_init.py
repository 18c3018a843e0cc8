"""`fipo init`: what it writes passes `fipo check` and runs, with rows and models of one's own."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fipo.check import check
from fipo.cli import main
from fipo.config import load_config
from fipo.errors import ConfigError, DataError
from fipo.init import init
from fipo.init.rows import look_at_data
from fipo.planning.hardware import KINDS

GSM8K = [
    {
        "question": f"Ann has {n} pens and buys {n}. How many?",
        "answer": f"{n} + {n} = <<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}",
    }
    for n in range(1, 61)
]
QUIZ = [{"Question": f"Which is {n}? (A) 0 (B) 1 (C) 2 (D) 3", "Label": "ABCD"[n % 4]} for n in range(30)]
OWN = [{"problem": f"{n} + 1?", "solution": f"It is {n + 1}", "final_answer": str(n + 1)} for n in range(30)]


def csv(rows):
    cells = [list(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in cells) + "\n"


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        path.write_text(csv(rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def test_what_is_written_passes_the_check_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    main(["init", "deep/mine"])
    assert "fipo check --recipe deep/mine/recipe.yaml" in capsys.readouterr().out
    main(["check", "--recipe", "deep/mine/recipe.yaml", "--json"])
    checks = json.loads(capsys.readouterr().out)
    assert checks["ok"]
    assert "my_rewards:brevity" in str(checks)
    rows = [(tmp_path / "deep/mine" / name).read_text().splitlines() for name in ("problems.jsonl", "benchmark.jsonl")]
    assert len(rows[0]) == 20 and not {json.loads(row)["prompt"] for row in rows[0]} & {
        json.loads(row)["prompt"] for row in rows[1]
    }


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("gsm.jsonl", GSM8K, ("question", "answer", "####", "answer", "math")),
        ("gsm.jsonl.gz", GSM8K, ("question", "answer", "####", "answer", "math")),
        ("gsm.parquet", GSM8K, ("question", "answer", "####", "answer", "math")),
        ("quiz.csv", QUIZ, ("Question", "Label", "", "", "choice")),
        ("own.json", OWN, ("problem", "final_answer", "", "solution", "math")),
    ],
)
def test_a_file_of_ones_own_fills_the_recipe_in(tmp_path, name, rows, columns):
    folder = tmp_path / "mine"
    init(folder, data=write(tmp_path / name, rows), machine="laptop")
    config = load_config(folder / "recipe.yaml", ["model={architecture: {vocabulary: [a, b]}}", "data.chat=false"])
    [source], [benchmark] = config.data.train, config.data.benchmarks.values()
    prompt, answer, after, response, grader = columns
    assert (source.prompt_column, source.answer_column, source.answer_after, source.grader) == (
        prompt, answer, after, grader,
    )  # fmt: skip
    assert source.uri == str(tmp_path / name)
    assert [one.response_column for one in config.data.sft] == ([response] if response else [])
    assert bool(config.sft.steps) == bool(response)
    findings = {one.check: one for one in check(config)[0]}
    assert {findings[name].status for name in findings if name.startswith("data.")} == {"ok"}
    held_out = [json.loads(line) for line in (folder / "benchmark.jsonl").read_text().splitlines()]
    assert len(held_out) == len(rows) // 10
    assert benchmark.prompt_column == prompt


ODD = [
    {"": str(n), "Customer": "Zoë", "Question Text": f"Zoë has {n} pens. How many?", "Correct Answer": n}
    for n in range(30)
]
NESTED = [
    {
        "ts": 1,
        "data": {"question": f"{n}?"},
        "reward_model": {"ground_truth": str(n)},
        "meta": {"solution": f"It is {n}"},
    }
    for n in range(30)
]
ALPACA = [{"instruction": "Solve it.", "input": f"{n} + 1?", "output": n + 1, "Solution": ""} for n in range(30)]
SHOUTED = [{"QUESTION": f"{n} + 1?", "Answer": n + 1, "Explanation": f"It is {n + 1}"} for n in range(30)]


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("odd.csv", ODD, ("Question Text", "Correct Answer", "")),
        ("nested.jsonl.gz", NESTED, ("data.question", "reward_model.ground_truth", "meta.solution")),
        ("nested.parquet", NESTED, ("data.question", "reward_model.ground_truth", "meta.solution")),
        ("alpaca.json", ALPACA, ("input", "output", "")),  # the instruction is the same in all rows
        ("shouted.csv", SHOUTED, ("QUESTION", "Answer", "Explanation")),
    ],
)
def test_columns_are_told_by_what_is_in_their_names_and_in_them(tmp_path, name, rows, columns):
    path = write(tmp_path / name, rows)
    if path.suffix == ".csv":  # as a spreadsheet saves it
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b'","', b'";"'))
    found = look_at_data(path)
    assert (found.prompt_column, found.answer_column, found.response_column) == columns
    assert {key for row in found.benchmark for key in row} == {name.partition(".")[0] for name in columns if name}


SVAMP = [
    {
        "ID": n,
        "Body": f"Ann has {n} pens.",
        "Question": f"How many has she with {n} more?",
        "Answer": 2.0 * n,
        "Type": "Sum",
    }
    for n in range(30)
]
REPEATED = [{"Question": f"Ann has {n} pens. How many?", "Body": f"Ann has {n} pens.", "Answer": n} for n in range(30)]
MMLU = [
    {"question": f"{n} + 1?", "options": [str(n + m) for m in range(4)], "answer": "ABCD"[n % 4]} for n in range(30)
]
STEMS = [
    {"question": {"concept": "sums", "stem": f"{n}?", "choices": [{"label": "A", "text": str(n)}]}, "answerKey": "A"}
    if n % 2
    else {"question": {"concept": "sum", "stem": f"{n}?", "choices": [{"label": "B", "text": "0"}]}, "answerKey": "B"}
    for n in range(30)
]
ARC = [
    {"question": f"{n}?", "choices": {"text": ["0", "1"], "label": ["A", "B"]}, "answerKey": "AB"[n % 2]}
    for n in range(30)
]
MEDQA = [{"question": f"{n}?", "options": {"A": "no", "B": "yes"}, "answer": "AB"[n % 2]} for n in range(30)]
RACE = [
    {"article": f"Tom has {n} dogs.", "question": f"{n % 7}?", "options": ["0", "1"], "answer": "AB"[n % 2]}
    for n in range(30)
]


@pytest.mark.parametrize(
    ("rows", "asked", "said"),
    [
        (SVAMP, "{Body}\n{Question}", "not read: 'ID', 'Type'"),
        (REPEATED, "Question", "not read: 'Body'"),
        (MMLU, "{question}\n{options}", ""),
        (STEMS, "{question.stem}\n{question.choices}", "not read: 'question.concept'"),
        (ARC, "{question}\n{choices}", ""),
        (MEDQA, "{question}\n{options}", ""),
        (RACE, "{article}\n{question}\n{options}", ""),
    ],
)
def test_what_belongs_to_a_question_is_asked_with_it(tmp_path, rows, asked, said):
    found = look_at_data(write(tmp_path / "rows.jsonl", rows))
    assert found.prompt_column == asked and found.describe().endswith(said)
    folder = tmp_path / "mine"
    init(folder, data=tmp_path / "rows.jsonl", machine="laptop")
    config = load_config(folder / "recipe.yaml", ["model={architecture: {vocabulary: [a, b]}}", "data.chat=false"])
    assert {one.status for one in check(config)[0] if one.check.startswith("data.")} == {"ok"}


def test_a_damaged_column_that_nobody_needs_does_not_matter(tmp_path):
    table = pa.table({"question": ["1?", "2?"], "answer": [1, 2], "at": pa.array([0, 2**62], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert look_at_data(tmp_path / "rows.parquet").benchmark == [{"question": "1?", "answer": 1}]


def test_columns_may_be_named(tmp_path, capsys):
    rows = [{"x": f"{n}?", "type of answer": "n", "y": n, "right answer": n} for n in range(9)]
    told = ["--data", str(write(tmp_path / "odd.jsonl", rows)), "--machine", "laptop"]
    wrong = [
        ([*told, "--prompt-column", "z"], "--prompt-column: "),
        ([*told, "--prompt-column", "z"], "no column 'z'; there are x, "),
        (told, "Name it: --prompt-column NAME"),
        (["--answer-column", "y"], "need --data FILE"),
    ]
    for options, words in wrong:
        with pytest.raises(SystemExit):
            main(["init", str(tmp_path / "mine"), *options])
        assert words in capsys.readouterr().err
    main(["init", str(tmp_path / "mine"), *told, "--prompt-column", "x", "--answer-column", "y"])
    assert "columns: problem from 'x', answer from 'y'" in capsys.readouterr().out


@pytest.mark.parametrize("machine", KINDS)
def test_every_machine_has_a_recipe_that_loads(tmp_path, monkeypatch, machine):
    # Nothing listens there: no test asks the real hub.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    data = write(tmp_path / "gsm.jsonl", GSM8K)
    init(tmp_path / machine, data=data, model="org/Model-Instruct", machine=machine)
    config = load_config(tmp_path / machine / "recipe.yaml")
    assert config.data.chat and config.model.name_or_path == "org/Model-Instruct"
    assert config.train.updates_per_step > 1, "else FIPO is DAPO"
    assert config.data.prompt_template == "{prompt}\nReason step by step, and put the final answer into \\boxed{}."


def test_a_folder_with_a_model_is_named_from_the_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smol").mkdir()
    (tmp_path / "smol" / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    init(tmp_path / "mine", model="smol")
    config = load_config("mine/recipe.yaml")
    assert config.model.name_or_path == str(tmp_path / "smol")
    assert config.data.chat


def test_nothing_is_overwritten(tmp_path):
    init(tmp_path / "mine")
    before = {path: path.read_text() for path in (tmp_path / "mine").iterdir()}
    with pytest.raises(ConfigError, match=r"recipe\.yaml is there already"):
        init(tmp_path / "mine")
    assert {path: path.read_text() for path in (tmp_path / "mine").iterdir()} == before


@pytest.mark.parametrize(
    ("data", "model", "kind", "words"),
    [
        ("nothing.jsonl", "", DataError, "there is no such file"),
        ("empty.jsonl", "", DataError, "no row of it can be read"),
        (
            "odd.jsonl",
            "",
            ConfigError,
            "is named as the prompt usually is.*there are 'x', 'y'",
        ),
        (None, "./nothing", ConfigError, "there is no such folder"),
    ],
)
def test_what_cannot_be_told_is_refused_and_nothing_written(tmp_path, data, model, kind, words):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "odd.jsonl").write_text('{"x": 1, "y": 2}\n')
    with pytest.raises(kind, match=words):
        init(tmp_path / "mine", data=data and tmp_path / data, model=model)
    assert not (tmp_path / "mine").exists()
