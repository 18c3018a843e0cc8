"""Wrong inputs of every kind: one line that names what is wrong, the promised exit code, and an answer at once."""

import gzip
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fipo.data.audit  # noqa: F401 - whose libraries take seconds to import
from fipo.cli import main

SECONDS = 2.0
"""Of the processor, to answer where no data and no model has to be looked at; libraries are there already."""
TINY = Path(__file__).parent / "pipelines" / "tiny.yaml"
ROWS = [{"prompt": f"Add modulo 5 : 0 1 {n}", "answer": str((1 + n) % 5)} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
SETTINGS, DATA, FAILED = 2, 65, 1

OVERRIDES = {
    "train.learning_rat=1": "train.learning_rat: no such setting; did you mean 'learning_rate'?",
    "trian.steps=1": "trian: no such setting; did you mean 'train'?",
    "train.steps=0": "train.steps",
    "train.steps=1.5": "train.steps",
    "train.steps=many": "train.steps",
    "train.steps=-3": "train.steps",
    "train.steps": "key.path=value",
    "=1": "key.path=value",
    "train.steps={": "not YAML",
    "train.steps={a: 1, a: 2}": "'a' stands twice",
    "run.made=2026-02-30": "not YAML",
    "run.name.x=1": "run.name is a value",
    "train.learning_rate=-1": "train.learning_rate",
    "train.learning_rate=.nan": "train.learning_rate",
    "rollout.temperature=0": "rollout.temperature",
    "rollout.top_p=0.9": "evaluation.top_p may be less",
    "rollout.group_size=1": "rollout.group_size",
    "gate.minimum=2": "gate.minimum",
    "gate.benchmark=nothing": "gate.benchmark: must be one of running-sums",
    "data.validation_fraction=-0.1": "data.validation_fraction",
    "run.name=My Run": "run.name",
    "run.directory='runs?x'": "run.directory",
    "storage.uri=ftp://host/x": "expected file:///folder or s3://bucket/prefix",
    "storage.uri=s3://": "expected s3://bucket/prefix",
    "storage.uri=s3://key:secret@bucket/x": "an address holds no credentials",
    "storage.uri=/tmp/x": "expected file:///folder",
    "storage.uri=file://host/x": "expected file:///folder",
    "tracking.uri=htp://mlflow": "expected http://host:port",
    "tracking.uri=http://mlflow:99999": "Port out of range",
    "tracking.uri=http://mlflow:abc": "Port could not be cast",
    "links.mlflow=mlflow.example.com": "http://... or https://...",
    "links.mlflow=https://": "it names no host",
    "data.train=[{uri: 'htp://host/rows.jsonl'}]": "expected a path, file:///file, s3://bucket/key or hf://",
    "data.train=[{uri: 'hf://'}]": "expected hf://organisation/name",
    "data.train=[{}]": "exactly one of them; got neither",
    "data.train=[]": "data.train",
    "data.train=rows.jsonl": "data.train",
    "data.train=[{uri: a.jsonl, prompt_colum: x}]": "did you mean 'prompt_column'?",
    "data.train=[{uri: a.jsonl, grader: maths}]": "must be one of math, exact, choice, tests, or package.module:",
    "data.train=[{uri: a.jsonl, ending: box}]": "data.train.0.ending",
    "data.prompt_template=none": "a text with {prompt}",
    "data.system_prompt=Be brief": "empty without data.chat",
    "data.benchmarks=[aime-2042]": "did you mean 'aime-202",
    "data.benchmarks={}": "data.benchmarks",
    "data.benchmarks={Bad Name: {uri: x}}": "Bad Name",
    "model.name_or_path=x": "exactly one of the two",
    "reward.functions={}": "reward.functions",
    "distributed={offload: optimizer, zero_stage: 0}": "distributed.zero_stage: must be at least 1",
}

RECIPES = {
    "dmeo": (None, "did you mean 'demo'?"),
    "nothing.yaml": (None, "expected a YAML file or one of"),
    "x" * 5000: (None, "expected a YAML file or one of"),
    ".": (None, "expected a YAML file or one of"),
    "a\0b": (None, "expected a YAML file or one of"),
    "~nobody-here/mine.yaml": (None, "expected a YAML file or one of"),
    "utf16.yaml": ("extends: demo\n".encode("utf-16"), "must be text in UTF-8"),
    "latin1.yaml": ("run: {name: café}".encode("latin-1"), "must be text in UTF-8"),
    "binary.yaml": (bytes(range(8)) * 9, "not YAML"),
    "tab.yaml": (b"run:\n\tname: a\n", "not YAML"),
    "twice.yaml": (b"extends: demo\ntrain: {steps: 1}\ntrain: {steps: 2}\n", "'train' stands twice"),
    "quote.yaml": (b'run: {name: "a}\n', "not YAML"),
    "python.yaml": (b"run: !!python/object/apply:os.getcwd []\n", "not YAML"),
    "list.yaml": (b"- a\n", "expected a mapping, found list"),
    "empty.yaml": (b"", "expected a mapping, found NoneType"),
    "text.yaml": (b"just words\n", "expected a mapping, found str"),
    "numbers.yaml": (b"extends: demo\n1: 2\n", "1"),
    "null.yaml": (b"extends: demo\ndata:\n", "data"),
    "extends-list.yaml": (b"extends: [demo]\n", "extends: must be the name of one recipe"),
    "extends-itself.yaml": (b"extends: extends-itself.yaml\n", "extends itself"),
    "extends-nothing.yaml": (b"extends: dem\n", "did you mean 'demo'?"),
    "loop.yaml": (b"extends: demo\ndata: &a {train: [*a]}\n", "data.train.0"),
    "deep.yaml": (b"run: " + b"[" * 1100, "not YAML"),
}

COMMANDS = {
    "train --recipe demo --steps 3": (SETTINGS, "unrecognized arguments: --steps"),
    "trian": (SETTINGS, "invalid choice: 'trian'"),
    "ui --port 0": (SETTINGS, "must be a port, 1 to 65535; got '0'"),
    "ui --port 70000": (SETTINGS, "must be a port"),
    "serve fipo --port http": (SETTINGS, "must be a port"),
    "plan demo --gpus 0": (SETTINGS, "at least 1"),
    "init --machine toaster": (SETTINGS, "invalid choice: 'toaster'"),
    "init --data nothing.csv": (DATA, "there is no such file"),
    "init --model ./nothing": (SETTINGS, "there is no such folder"),
    "report nothing": (SETTINGS, "nothing"),
    "audit htp://host/x": (SETTINGS, "audit: uri: 'htp://host/x': expected a path"),
    "audit nothing.jsonl": (DATA, "No such file"),
    "audit rows.jsonl --grader maths": (SETTINGS, "audit: grader: must be one of math"),
}

FILES = {
    "empty.jsonl": b"",
    "rows.jsonl": LINES,
    "utf16.csv": "prompt,answer\na,1\n".encode("utf-16"),
    "sheet.xlsx": b"PK\x03\x04rest",
    "cut.jsonl.gz": gzip.compress(LINES)[:-20],
    "broken.jsonl": b"{\n" * 9,
    "array.json": b'[{"prompt": "a"}',
    "twice.csv": b"answer,answer\n1,2\n",
    "other.csv": b"question,solution\n1,2\n",
    "latin.csv": "prompt,answer\ncafé,1\n".encode("latin-1"),
    "said.jsonl": b'{"prompt": "Add", "answer": "1", "response": "It must be one"}\n',
}
SOURCES = {
    "{uri: nothing.jsonl}": (DATA, "data.train[0].uri: [Errno 2] No such file or directory"),
    "{uri: empty.jsonl}": (DATA, "has no rows"),
    "{uri: utf16.csv}": (DATA, "UTF-16: save it as UTF-8"),
    "{uri: sheet.xlsx}": (DATA, "a spreadsheet"),
    "{uri: cut.jsonl.gz}": (DATA, "damaged gzip file"),
    "{uri: cut.parquet}": (DATA, "damaged parquet file"),
    "{uri: broken.jsonl}": (DATA, "none of the first 9 rows can be used; line 1: not JSON"),
    "{uri: array.json}": (DATA, "begins as a JSON array"),
    "{uri: twice.csv}": (DATA, "column 'answer' stands twice"),
    "{uri: other.csv}": (SETTINGS, "no column 'prompt'; there are question, solution; did you mean 'question'?"),
    "{uri: latin.csv}": (
        DATA,
        "not valid Unicode, column 'prompt': bytes that are no UTF-8: save the file as CSV in UTF-8",
    ),
    "{uri: rows.jsonl, answer_column: anser}": (SETTINGS, "did you mean 'answer'?"),
    "{uri: rows.jsonl, columns: [unit]}": (SETTINGS, "no column 'unit'"),
    "{uri: rows.jsonl, grader: tests}": (SETTINGS, "of the first 5 it takes none"),
    "{uri: rows.jsonl, grader: 'nothing:here'}": (SETTINGS, "there is no module 'nothing'"),
    "{uri: folder}": (DATA, "cannot be loaded"),
    "{generator: {digits: 2, modulus: 2}, limit: 100}": (DATA, "make 4 different problems"),
}

CHECKS = {
    "reward.functions={acuracy: 1}": (SETTINGS, "no reward function 'acuracy'"),
    "reward.functions={'rewards_here:syntax': 1}": (SETTINGS, "rewards_here:syntax"),
    "reward.functions={'broken_syntax:f': 1}": (SETTINGS, "SyntaxError"),
    "reward.functions={'rewards_here:raises': 1}": (DATA, "ZeroDivisionError"),
    "reward.functions={'rewards_here:text': 1}": (DATA, "must return a finite number"),
    "reward.functions={'rewards_here:number': 1}": (SETTINGS, "must be a function; found int"),
    "model={name_or_path: /no/such/model}": (SETTINGS, "is no folder here"),
    "model={name_or_path: folder/model}": (SETTINGS, "is no folder here"),
    "model={name_or_path: folder}": (SETTINGS, "model.name_or_path: no configuration at 'folder'"),
    "model={name_or_path: 's3://bucket/model'}": (SETTINGS, "is no folder here"),
    "data.sft=[{uri: said.jsonl}]": (DATA, "1 unparsed"),
    "storage.uri=file:///etc/passwd/store": (FAILED, "/etc/passwd is no folder"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with files of every kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    (tmp_path / "folder").mkdir()
    (tmp_path / "rewards_here.py").write_text(
        "number = 3\ndef raises(response):\n    return 1 / 0\ndef text(response):\n    return 'good'\n"
    )
    (tmp_path / "broken_syntax.py").write_text("def f(:\n")
    return tmp_path


@pytest.fixture
def refused(here, capsys):
    """Run a command that is refused: its exit code, and what it says."""

    def refused(*arguments):
        began = time.process_time()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return ended.value.code, printed.err.strip(), time.process_time() - began

    return refused


def test_there_are_enough_of_them():
    assert len({*OVERRIDES, *RECIPES, *COMMANDS, *SOURCES, *CHECKS}) > 100


@pytest.mark.parametrize("override", OVERRIDES)
def test_settings(refused, override):
    code, message, seconds = refused("config", "--recipe", "demo", "--set", override)
    assert (code, OVERRIDES[override] in message) == (SETTINGS, True), message
    assert "\n" not in message and seconds < SECONDS


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda name: ascii(name[:20]))
def test_recipes(refused, here, recipe):
    content, words = RECIPES[recipe]
    if content is not None:
        (here / recipe).write_bytes(content)
    code, message, seconds = refused("config", "--recipe", recipe)
    assert (code, words in message) == (SETTINGS, True), message
    assert seconds < SECONDS


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(refused, here, command):
    expected, words = COMMANDS[command]
    before = set(here.iterdir())
    code, message, seconds = refused(*command.split())
    assert (code, words in message) == (expected, True), message
    assert seconds < SECONDS
    assert set(here.iterdir()) == before, "nothing is written"


@pytest.mark.parametrize("source", SOURCES)
def test_data(refused, source):
    code, message, _ = refused("prepare", "--recipe", str(TINY), "--set", f"data.train=[{source}]")
    assert (code, SOURCES[source][1] in message) == (SOURCES[source][0], True), message
    assert "\n" not in message


@pytest.mark.parametrize("override", CHECKS)
def test_what_only_the_check_sees(here, capsys, override):
    with pytest.raises(SystemExit) as ended:
        main(["check", "--recipe", str(TINY), "--json", "--set", override])
    printed = capsys.readouterr()
    failed = [one["found"] for one in json.loads(printed.out)["checks"] if one["status"] == "failed"]
    expected, words = CHECKS[override]
    assert (ended.value.code, words in failed[0]) == (expected, True), failed
