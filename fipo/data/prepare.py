"""Raw rows to clean sets: every row is checked, counted, and kept, removed or quarantined with its reason.

    benchmarks   read ► validate ► distinct ► short enough ► benchmarks/<name>.parquet
                                                  ▼ index
    train, sft   read ► validate ► distinct ► uncontaminated ► short enough ► no near duplicates ► split ► <set>.parquet

Everything streams: memory holds digests and band hashes of the problems, their text waits on disk.
"""

from __future__ import annotations

import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.config import Config, Source
from fipo.data.card import write_card
from fipo.data.cleaning import Candidate, Cleaner, Origin, Rules
from fipo.data.demonstrations import Demonstrations
from fipo.data.files import ProblemWriter, Staged
from fipo.data.manifest import Manifest, Overlaps, PreparedFile, Quarantine, Tally, explain
from fipo.data.near_duplicates import NearDuplicates
from fipo.data.overlap import BenchmarkIndex, split_words
from fipo.data.progress import OnRows, report_lines
from fipo.data.rows import Reason
from fipo.data.schema import Problem
from fipo.data.validation import MAX_ANSWER_CHARACTERS, Refusal
from fipo.errors import DataError
from fipo.files import sha256_of
from fipo.models import context_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SETS = {"train": ("train.parquet", "validation.parquet"), "sft": ("sft.parquet", "sft-validation.parquet")}
"""Files of each set: to learn from, and held out."""


def prepare(
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    *,
    refusal: Refusal,
    demonstrations: Demonstrations | None = None,
    progress: OnRows | None = None,
) -> Manifest:
    """Prepare all sets of `config.data` in the folder `output`; the manifest is written last.

    Args:
        config: `data` says what; `sft.steps` whether demonstrations are needed; `model` how long a row may be.
        tokenizer: the model's; its tokens are what `data.max_prompt_tokens` counts.
        output: created if need be; what an earlier preparation left there is replaced.
        refusal: why a grader cannot grade against a reference answer.
        demonstrations: what grades them; None does not.
        progress: told what is being done; None prints lines.

    Raises:
        DataError: a data set is missing, nothing is left of one that is needed, or too many demonstrations are wrong.
        StorageError: the object store refused.
    """
    _clear(output)
    with Quarantine(output / "quarantine.jsonl") as quarantine, Overlaps(output / "overlaps.jsonl") as overlaps:
        judge, told = _remembering(refusal), progress or report_lines()
        context = context_of(config.model)
        rules = Rules(config.data, tokenizer, judge, quarantine, overlaps, told, context, demonstrations)
        preparation = _Preparation(rules, output)
        for name, source in config.data.benchmarks.items():
            preparation.benchmark(name, source)
        preparation.learning_set("train", config.data.train, required=True)
        if config.data.sft:
            preparation.learning_set("sft", config.data.sft, required=config.sft.steps > 0)
    return preparation.finish(config)


class _Preparation:
    """One preparation in progress: the sets one after the other, benchmarks first."""

    def __init__(self, rules: Rules, output: Path) -> None:
        self.rules, self.output = rules, output
        self.index = BenchmarkIndex(rules.data.decontamination_ngram)
        self.tallies: list[Tally] = []
        self.written: dict[str, ProblemWriter] = {}

    def benchmark(self, name: str, source: Source) -> None:
        """Write one benchmark and enter its problems in the index."""
        rules = replace(self.rules, data=self.rules.data.asked_as(name))
        cleaner = Cleaner(name, rules, demonstrations=False, benchmarks=None)
        with self._writer(f"benchmarks/{name}.parquet") as writer:
            for found in cleaner.clean(source):
                writer.write(found.problem, found.prompt_tokens)
                prompt = found.problem.prompt
                self.index.add(split_words(prompt), found.origin.template, benchmark=name, problem=prompt)
                found.origin.tally.kept += 1
        self._count(f"data.benchmarks.{name}", cleaner.tallies, rows=writer.rows)

    def learning_set(self, name: str, sources: Iterable[Source], *, required: bool) -> None:
        """Write one set without what overlaps the benchmarks or repeats itself, a share of it held out."""
        cleaner = Cleaner(name, self.rules, demonstrations=name == "sft", benchmarks=self.index)
        fraction, (learned, held_out) = self.rules.data.validation_fraction, SETS[name]
        with (
            tempfile.TemporaryDirectory(dir=self.output, prefix=".staging-") as folder,
            self._writer(learned) as learn,
            self._writer(held_out) as validation,
        ):
            candidates = (found for source in sources for found in cleaner.clean(source))
            for found in _without_near_duplicates(candidates, Path(folder) / "problems.jsonl", self.rules):
                found.origin.tally.kept += 1
                writer = validation if _is_held_out(found.problem, fraction) else learn
                writer.write(found.problem, found.prompt_tokens)
        self._count(f"data.{name}", cleaner.tallies, rows=learn.rows if required else None)

    def finish(self, config: Config) -> Manifest:
        """Write the data card and, last of all, the manifest."""
        manifest = Manifest(
            config=config.data.model_dump(mode="json"),
            config_digest=config.digest("data", "model"),
            sources=tuple(self.tallies),
            files={name: PreparedFile(w.rows, sha256_of(w.path)) for name, w in self.written.items()},
        )
        lengths = {name: writer.prompt_tokens for name, writer in self.written.items()}
        write_card(self.output, config.data, manifest, lengths, self.rules.overlaps.first)
        manifest.write(self.output)
        return manifest

    def _writer(self, name: str) -> ProblemWriter:
        self.written[name] = ProblemWriter(self.output / name)
        return self.written[name]

    def _count(self, field: str, tallies: list[Tally], *, rows: int | None) -> None:
        if rows == 0:
            raise DataError(
                f"{field}: no problem is left. {explain(tallies)}. The rows set aside are in "
                f"{self.rules.quarantine.path}, each with its reason"
            )
        self.tallies += tallies


def _remembering(refusal: Refusal) -> Refusal:
    """Answers repeat: DAPO-Math-17k has a few thousand different ones. Tests do not, and may be large."""
    remembered = lru_cache(maxsize=100_000)(refusal)

    def refuse(grader: str, answer: str, columns: str) -> str:
        is_short = len(answer) + len(columns) <= MAX_ANSWER_CHARACTERS
        return (remembered if is_short else refusal)(grader, answer, columns)

    return refuse


def _without_near_duplicates(candidates: Iterator[Candidate], staging: Path, rules: Rules) -> Iterator[Candidate]:
    """The first of each family of near duplicates; a generator's problems differ on purpose and are all kept."""
    threshold = rules.data.near_duplicate_jaccard
    if threshold is None:
        yield from candidates
        return
    near = NearDuplicates(threshold)
    origins: list[Origin] = []
    lengths = array("L")

    def problems() -> Iterator[Problem]:
        for found in candidates:
            if not found.origin.source.is_made:
                near.add(len(origins), found.origin.words(found.problem), found.problem.answer)
            origins.append(found.origin)
            lengths.append(found.prompt_tokens)
            yield found.problem

    with closing(Staged(staging, problems())) as staged:
        rules.progress("comparing near duplicates", len(staged))
        repeats = near.find(lambda key: origins[key].words(staged[key]))
        for key, problem in enumerate(staged):
            if key in repeats:
                origins[key].tally.remove(Reason.NEAR_DUPLICATE)
            else:
                yield Candidate(origins[key], problem, lengths[key])


def _is_held_out(problem: Problem, fraction: float) -> bool:
    """Decided by the content hash alone: adding or removing other problems moves none."""
    return int(problem.id[:16], 16) < fraction * 2**64


def _clear(output: Path) -> None:
    """Remove what an earlier preparation wrote, its manifest first: without one the folder counts as unfinished."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "manifest.json").unlink(missing_ok=True)
    for staging in output.glob(".staging-*"):
        shutil.rmtree(staging)
    for path in (*(output / name for names in SETS.values() for name in names), *output.glob("benchmarks/*.parquet")):
        path.unlink(missing_ok=True)
