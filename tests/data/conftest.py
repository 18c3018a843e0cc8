"""Small data sets on disk, a tokenizer that takes any word, and `prepare` with both."""

import json
import os

# Before `datasets` is imported by any test: no test may ask the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from fipo.config import load_config
from fipo.data.prepare import prepare
from fipo.data.schema import read_problems


@pytest.fixture(scope="session")
def tokenizer():
    """One token for each word; words that it does not know are all `<unknown>`."""
    words = Tokenizer(WordLevel({"<unknown>": 0, "<end>": 1}, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unknown>", eos_token="<end>")


@pytest.fixture
def write(tmp_path):
    """Write rows (dicts as JSON, bytes as they are) to a JSONL file, or dicts to parquet; returns its path."""

    def write(name, rows):
        path = tmp_path / name
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            lines = (row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
            path.write_bytes(b"".join(lines))
        return str(path)

    return write


@pytest.fixture
def configure(write):
    """The demo's recipe on other data, each set given as rows or as a source; other keywords are `data`'s settings."""

    def source(name, given):
        return {"uri": write(f"{name}.jsonl", given)} if isinstance(given, list) else given

    def configure(rows, benchmark=None, sft=None, *, sft_steps=0, **settings):
        benchmark = benchmark or [{"prompt": "Which question is asked only in the benchmark?", "answer": "1"}]
        data = {
            "train": [source("train", rows)],
            "sft": [source("sft", sft)] if sft is not None else [],
            "benchmarks": {"held-out": source("benchmark", benchmark)},
            "validation_fraction": 0.0,
            "max_prompt_tokens": 2048,
        }
        overrides = [f"data.{key}={json.dumps(value)}" for key, value in (data | settings).items()]
        return load_config("demo", [*overrides, f"sft.steps={sft_steps}"])

    return configure


class Prepared:
    """A prepared folder: its manifest, problems by file, and quarantined rows."""

    def __init__(self, manifest, folder):
        self.manifest, self.folder = manifest, folder

    def prompts(self, name="train"):
        return [problem.prompt for problem in self.problems(name)]

    def problems(self, name="train"):
        return read_problems(self.folder / f"{name}.parquet")

    def tally(self, name="train"):
        (tally,) = (tally for tally in self.manifest.sources if tally.set == name)
        return tally

    @property
    def quarantined(self):
        lines = (self.folder / "quarantine.jsonl").read_text().splitlines()
        return [(entry["line"], entry["reason"]) for entry in map(json.loads, lines)]


@pytest.fixture
def run(tmp_path, tokenizer):
    """Prepare in a folder; every answer is accepted but `unparsable`."""

    def run(config, folder="prepared", tokenizer=tokenizer):
        path = tmp_path / folder
        manifest = prepare(
            config,
            tokenizer,
            path,
            refusal=lambda grader, answer, columns: "no" if answer == "unparsable" else "",
            progress=lambda what, rows: None,
        )
        return Prepared(manifest, path)

    return run
