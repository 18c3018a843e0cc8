"""Data preparation at size: rows per second and peak memory of `prepare`, and of the same steps in a usual script.

    python -m benchmarks.data [--rows 17000 200000 1000000] [--json]

The corpus is seeded and its faults are planted, so what must be found is known. The peer is `datasets` for reading,
filtering and writing with datasketch for near duplicates, on the corpora of up to `--peer-rows` and without the broken
lines, which it cannot read; the ratios are those of the largest. Every measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.corpus import BENCHMARK_PROBLEMS, Corpus

MEBIBYTE = 2**20
MAX_PROMPT_TOKENS = 2048


@dataclass(frozen=True)
class Cost:
    """Of one preparation."""

    rows: int
    seconds: float
    rows_per_second: float
    peak_memory_mb: float
    """Largest resident set of the process, interpreter and libraries (300 MB) included."""
    found: dict[str, int]
    """Faults by kind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[17_000, 200_000, 1_000_000], help="sizes of the corpus")
    parser.add_argument("--peer-rows", type=int, default=200_000, help="largest corpus that the peer is given")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fipo-benchmark-") as directory:
        folder = Path(directory)
        corpus = Corpus(seed=0)
        benchmark = [corpus.problem() for _ in range(BENCHMARK_PROBLEMS)]
        write_rows(folder / "benchmark.jsonl", [{"prompt": problem, "answer": "1"} for problem in benchmark])
        train_tokenizer(corpus, folder / "tokenizer.json")
        print(f"{'':8}{'rows':>10}{'seconds':>10}{'rows/s':>10}{'peak MB':>10}  found of planted", flush=True)
        ours, peers = [], []
        for rows in options.rows:
            planted = corpus.write(folder / "raw.jsonl", rows, benchmark)
            ours.append(in_a_process(measure_ours, folder, rows))
            show("fipo", ours[-1], planted)
            if rows <= options.peer_rows:
                peers.append(in_a_process(measure_peer, folder, rows))
                show("peer", peers[-1], planted)
    if options.json:
        # Both lists are in the order of `--rows`; the last peer stands beside ours of the same size.
        pairs = [(own, peer) for own in ours for peer in peers if own.rows == peer.rows]
        result = {
            "ratio": pairs[-1][0].rows_per_second / pairs[-1][1].rows_per_second if pairs else None,
            "memory_ratio": pairs[-1][0].peak_memory_mb / pairs[-1][1].peak_memory_mb if pairs else None,
            "fipo": [asdict(cost) for cost in ours],
            "datasets_and_datasketch": [asdict(cost) for cost in peers],
            "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "versions": {name: version(name) for name in ("fipo", "rensa", "pyarrow", "datasets", "datasketch")},
        }
        print(json.dumps(result))


def measure_ours(folder: Path, rows: int) -> Cost:
    """`prepare` on the raw corpus."""
    from fipo.config import load_config
    from fipo.data.prepare import prepare
    from fipo.rewards.math import parses

    def refusal(grader: str, answer: str, columns: str) -> str:
        return "" if parses(answer) else "it is no answer"

    data = {
        "train": [{"uri": str(folder / "raw.jsonl")}],
        "sft": [],
        "benchmarks": {"held-out": {"uri": str(folder / "benchmark.jsonl")}},
        "max_prompt_tokens": MAX_PROMPT_TOKENS,
    }
    settings = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    config, tokenizer = load_config("demo", [*settings, "sft.steps=0"]), load_tokenizer(folder)
    started = time.perf_counter()
    manifest = prepare(config, tokenizer, folder / "prepared", refusal=refusal, progress=lambda *_: None)
    seconds = time.perf_counter() - started
    (tally,) = (tally for tally in manifest.sources if tally.set == "train")
    return cost(rows, seconds, {str(reason): n for reason, n in (tally.quarantined | tally.removed).items()})


def measure_peer(folder: Path, rows: int) -> Cost:
    """The same with `datasets` and datasketch: exact duplicates, 13-grams, token length, near duplicates, split."""
    import datasets
    from datasketch import MinHash, MinHashLSH

    datasets.disable_progress_bars()
    whole = [line for line in (folder / "raw.jsonl").read_text().splitlines() if line.endswith("}")]
    (folder / "whole.jsonl").write_text("\n".join(whole))
    del whole
    tokenizer = load_tokenizer(folder)
    words_of = re.compile(r"\w+").findall
    started = time.perf_counter()
    grams = {
        gram for row in read_rows(folder / "benchmark.jsonl") for gram in runs(words_of(row["prompt"].lower()), 13)
    }
    found: Counter[str] = Counter()
    seen: set[str] = set()
    index = MinHashLSH(threshold=0.9, num_perm=128)

    def keep(reason: str, condition: bool) -> bool:
        found[reason] += not condition
        return condition

    def is_new(prompt: str) -> bool:
        key = " ".join(prompt.split())
        new = key not in seen
        seen.add(key)
        return keep("exact duplicate", new)

    def is_distinct(prompt: str, number: int) -> bool:
        minhash = MinHash(num_perm=128)
        minhash.update_batch([" ".join(run).encode() for run in runs(words_of(prompt.lower()), 5)])
        distinct = not index.query(minhash)
        if distinct:
            index.insert(number, minhash)
        return keep("near duplicate", distinct)

    def problem(row: dict[str, Any]) -> dict[str, str]:
        text = row["prompt"][0]["content"].partition("\n\n")[2].rpartition("\n\n")[0]
        return {"problem": text, "text": row["prompt"][0]["content"], "answer": row["reward_model"]["ground_truth"]}

    def fits(texts: list[str]) -> list[bool]:
        return [keep("prompt too long", len(ids) <= MAX_PROMPT_TOKENS) for ids in tokenizer(texts)["input_ids"]]

    data = datasets.load_dataset(
        "json", data_files=str(folder / "whole.jsonl"), cache_dir=folder / "cache", split="train"
    )
    data = data.map(problem, remove_columns=data.column_names)
    data = data.filter(is_new, input_columns="problem")
    data = data.filter(
        lambda text: keep("overlaps a benchmark", grams.isdisjoint(runs(words_of(text.lower()), 13))),
        input_columns="problem",
    )
    data = data.filter(fits, input_columns="text", batched=True)
    data = data.filter(is_distinct, input_columns="problem", with_indices=True)
    for name, part in data.train_test_split(test_size=0.02, seed=0).items():
        part.to_parquet(folder / f"peer-{name}.parquet")
    return cost(rows, time.perf_counter() - started, dict(found))


def in_a_process(measure: Callable[[Path, int], Cost], folder: Path, rows: int) -> Cost:
    """Measure in a fresh interpreter, for its memory to be its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, folder, rows).result()


def cost(rows: int, seconds: float, found: dict[str, int]) -> Cost:
    """What this process has spent."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE
    return Cost(
        rows, round(seconds, 2), round(rows / seconds, 1), round(peak, 1), {k: n for k, n in found.items() if n}
    )


def show(name: str, cost: Cost, planted: Counter[str]) -> None:
    """One line of the table."""
    kinds = {"broken": "not JSON"}
    found = (f"{kind} {cost.found.get(kinds.get(kind, kind), 0)}/{n}" for kind, n in planted.items() if kind != "sound")
    print(
        f"{name:8}{cost.rows:10,}{cost.seconds:10.1f}{cost.rows_per_second:10,.0f}{cost.peak_memory_mb:10,.0f}  "
        + ", ".join(sorted(found)),
        flush=True,
    )


def runs(words: list[str], n: int) -> list[tuple[str, ...]]:
    """Every run of `n` words."""
    return list(zip(*(words[start:] for start in range(n))))


def train_tokenizer(corpus: Corpus, path: Path) -> None:
    """A byte-level BPE of 8,000 tokens, as real tokenizers are built."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((corpus.problem() for _ in range(2000)), trainer)
    tokenizer.save(str(path))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that `train_tokenizer` saved."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<end>")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A small JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a small JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
