"""The shipped benchmarks: each file reads rows laid out as its data set has them, and recipes name them."""

from typing import Any

import pytest

from fipo.config import Source, benchmark_names, load_config
from fipo.data.rows import Row
from fipo.data.sources import read_rows
from fipo.data.validation import to_problem
from fipo.errors import ConfigError
from fipo.rewards.math import parses

ALL = ["aime-2024", "aime-2025", "gsm8k", "math-500", "minerva", "olympiadbench", "running-sums"]

LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "aime-2024": ({"id": 60, "problem": "P?", "solution": "...", "answer": "204", "url": "", "year": "2024"}, "204"),
    "aime-2025": ({"problem": "P?", "answer": "70", "id": "0"}, "70"),
    "gsm8k": ({"question": "P?", "answer": "48/2 = <<48/2=24>>24\n48+24 = 72\n#### 72"}, "72"),
    "math-500": (
        {"problem": "P?", "solution": "...", "answer": r"\left( 3, \frac{\pi}{2} \right)", "subject": "Precalculus",
         "level": 2, "unique_id": "test/precalculus/807.json"},
        r"\left( 3, \frac{\pi}{2} \right)",
    ),
    "minerva": ({"question": "P?", "answer": "0.0517"}, "0.0517"),
    "olympiadbench": (
        {"id": 1606, "question": "P?", "solution": ["..."], "final_answer": [r"$\frac{1}{2}$"], "context": None,
         "is_multiple_answer": False, "unit": None, "answer_type": "Numerical", "language": "English"},
        r"$\frac{1}{2}$",
    ),
}  # fmt: skip


def refusal(grader, answer, columns):
    return "" if parses(answer) else "it is no answer"


def test_all_are_shipped():
    assert benchmark_names() == ALL
    config = load_config("demo", [f"data.benchmarks=[{', '.join(ALL)}]"])
    assert list(config.data.benchmarks) == ALL
    assert config.data.benchmarks["aime-2024"].samples == 32
    assert load_config("paper-32b").gate_benchmark == "aime-2024"


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_are_read_as_the_data_set_has_them(name):
    (benchmark,) = load_config("demo", [f"data.benchmarks=[{name}]"]).data.benchmarks.values()
    record, answer = LAYOUTS[name]
    problem = to_problem(Row(1, record), benchmark, name, refusal=refusal, demonstration=False)
    assert (problem.prompt, problem.answer) == ("P?", answer)


def test_a_data_set_with_subsets_is_loaded(tmp_path, write):
    """GSM8K as a folder in the hub's layout, through `datasets`."""
    write("gsm8k-test.parquet", [LAYOUTS["gsm8k"][0]])
    (tmp_path / "README.md").write_text("---\nconfigs:\n- {config_name: main, data_files: gsm8k-*.parquet}\n---\n")
    (benchmark,) = load_config("demo", ["data.benchmarks=[gsm8k]"]).data.benchmarks.values()
    local = benchmark.model_copy(update={"uri": str(tmp_path), "split": "train"})
    (row,) = read_rows(local)
    assert to_problem(row, local, "gsm8k", refusal=refusal, demonstration=False).answer == "72"


def test_files_of_ones_own_and_changes_by_name(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("uri: mine.jsonl\nsamples: 2\nprompt_template: 'Q: {prompt}'\n")
    config = load_config(
        "demo", [f"data.benchmarks=[math-500, {mine}]", "data.benchmarks.math-500.samples=1", "gate.benchmark=mine"]
    )
    assert {name: one.samples for name, one in config.data.benchmarks.items()} == {"math-500": 1, "mine": 2}
    assert config.data.asked_as("mine").prompt_template == "Q: {prompt}"
    assert config.data.asked_as("math-500").prompt_template == config.data.prompt_template
    written = tmp_path / "config.yaml"
    written.write_text(config.to_yaml())
    mine.unlink()
    assert load_config(written) == config, "a written recipe needs no other file"


@pytest.mark.parametrize(
    ("benchmarks", "words"),
    [
        ("[nonesuch]", ["benchmark 'nonesuch'", "aime-2024"]),
        ("[gsm8k, gsm8k]", ["data.benchmarks", "must differ", "gsm8k, gsm8k"]),
        ("{x: {uri: a, prompt_template: none}}", ["data.benchmarks.x", "{prompt}"]),
        (
            "{x: {uri: a, grader: guess}}",
            ["data.benchmarks.x.grader", "math, exact, choice, tests, or package.module:function"],
        ),
        ("[]", ["data.benchmarks", "at least 1"]),
    ],
)
def test_impossible_benchmarks_are_refused(benchmarks, words):
    with pytest.raises(ConfigError) as caught:
        load_config("demo", [f"data.benchmarks={benchmarks}"])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_row_without_the_mark_keeps_its_answer():
    source = Source(uri="unused", answer_after="####")
    row = Row(1, {"prompt": "p", "answer": "5"})
    assert to_problem(row, source, "x", refusal=refusal, demonstration=False).answer == "5"
