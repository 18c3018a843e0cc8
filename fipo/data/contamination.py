"""Whether a benchmark's problems are in the data that a model learned from, checked against what `prepare` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import pyarrow.parquet as pq

from fipo.data.manifest import Manifest
from fipo.data.overlap import BenchmarkIndex, Match, Template, split_words
from fipo.data.schema import Problem

LEARNED_FROM = ("train.parquet", "sft.parquet")
TEMPLATE_ROWS = 1024
"""So many prompts tell what all of a file begin and end with."""


def contaminated(training: Path, problems: Sequence[Problem], *, ngram: int) -> frozenset[str]:
    """Ids of the problems that share `ngram` consecutive words with a training prompt, or equal a shorter one.

    Training data that were prepared together with the benchmark hold none: `prepare` has removed them. Others may.

    Args:
        training: a folder that `prepare` wrote; its files are checked against their digests.
        problems: of one benchmark.
        ngram: `data.decontamination_ngram`.

    Raises:
        DataError: the folder has no manifest, or its files are not those that the manifest names.
    """
    manifest = Manifest.read(training)
    manifest.verify(training)
    words = {problem.id: split_words(problem.prompt) for problem in problems}
    template = Template.common(list(words.values()))
    index = BenchmarkIndex(ngram)
    for problem_id, own in words.items():
        index.add(own, template, problem=problem_id)
    names = [name for name in LEARNED_FROM if name in manifest.files]
    return frozenset(match.problem for name in names for match in _found(training / name, index))


def _found(path: Path, index: BenchmarkIndex) -> Iterator[Match]:
    prompts = (
        split_words(prompt.as_py())
        for batch in pq.ParquetFile(path).iter_batches(columns=["prompt"])
        for prompt in batch.column(0)
    )
    head = list(islice(prompts, TEMPLATE_ROWS))
    judged = index.judge(((None, words) for words in chain(head, prompts)), Template.common(head))
    for _, matches in judged:
        yield from matches
