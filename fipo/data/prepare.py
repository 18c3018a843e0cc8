"""Raw rows to clean sets: every row is checked, counted, and kept, removed or quarantined with its reason.

    benchmarks   read ► validate ► distinct ► short enough ► benchmarks/<name>.parquet
                                                  ▼ index
    train, sft   read ► validate ► distinct ► uncontaminated ► short enough ► no near duplicates ► split ► <set>.parquet

Everything streams: memory holds digests and band hashes of the problems, their text waits on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from fipo.config import Config, Source
from fipo.data.cleaning import Cleaner, Origin, Rules
from fipo.data.files import ProblemWriter, Staged
from fipo.data.manifest import Manifest, PreparedFile, Quarantine, Tally, explain
from fipo.data.near_duplicates import NearDuplicates
from fipo.data.overlap import BenchmarkIndex, split_words
from fipo.data.progress import Progress, report_lines
from fipo.data.schema import Problem
from fipo.data.sources import Reason
from fipo.errors import DataError

SETS = {"train": ("train.parquet", "validation.parquet"), "sft": ("sft.parquet", "sft-validation.parquet")}
"""Files of each set: to learn from, and held out."""


def prepare(
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    *,
    accepts_answer: Callable[[str], bool],
    progress: Progress | None = None,
) -> Manifest:
    """Prepare all sets of `config.data` in the folder `output`; the manifest is written last.

    Args:
        config: `data` says what; `sft.steps` whether demonstrations are needed.
        tokenizer: the model's; its tokens are what `data.max_prompt_tokens` counts.
        output: created if need be; what an earlier preparation left there is replaced.
        accepts_answer: whether the verifier can parse a reference answer.
        progress: told what is being done; None prints lines.

    Raises:
        DataError: a data set is missing, or nothing is left of one that is needed.
        StorageError: the object store refused.
    """
    data, progress = config.data, progress or report_lines()
    _clear(output)
    with Quarantine(output / "quarantine.jsonl") as quarantine:
        # Answers repeat: DAPO-Math-17k has a few thousand different ones.
        rules = Rules(data, tokenizer, lru_cache(maxsize=100_000)(accepts_answer), quarantine, progress)
        index = BenchmarkIndex(data.decontamination_ngram)
        tallies = [_benchmark(name, source, rules, index, output) for name, source in data.benchmarks.items()]
        tallies += _learning_set("train", data.train, rules, index, output, required=True)
        if data.sft:
            tallies += _learning_set("sft", data.sft, rules, index, output, required=config.sft.steps > 0)
    manifest = Manifest(
        config=data.model_dump(mode="json"),
        config_digest=config.digest("data", "model"),
        sources=tuple(tallies),
        files={path.relative_to(output).as_posix(): PreparedFile.of(path) for path in _files(output)},
    )
    manifest.write(output)
    return manifest


def _benchmark(name: str, source: Source, rules: Rules, index: BenchmarkIndex, output: Path) -> Tally:
    """Write one benchmark and enter its problems in the index."""
    cleaner = Cleaner(name, rules, demonstrations=False, benchmarks=None)
    with ProblemWriter(output / "benchmarks" / f"{name}.parquet") as writer:
        for origin, problem in cleaner.clean(source):
            writer.write(problem)
            index.add(split_words(problem.prompt), origin.template)
            origin.tally.kept += 1
    _require(writer.rows, f"data.benchmarks.{name}", cleaner.tallies, rules.quarantine)
    return cleaner.tallies[0]


def _learning_set(
    name: str, sources: Iterable[Source], rules: Rules, index: BenchmarkIndex, output: Path, *, required: bool
) -> list[Tally]:
    """Write one set without what overlaps the benchmarks or repeats itself, a share of it held out."""
    cleaner = Cleaner(name, rules, demonstrations=name == "sft", benchmarks=index)
    learned, held_out = SETS[name]
    with (
        tempfile.TemporaryDirectory(dir=output, prefix=".staging-") as folder,
        ProblemWriter(output / learned) as learn,
        ProblemWriter(output / held_out) as validation,
    ):
        distinct = _without_near_duplicates(
            (pair for source in sources for pair in cleaner.clean(source)), Path(folder) / "problems.jsonl", rules
        )
        for origin, problem in distinct:
            origin.tally.kept += 1
            (validation if _is_held_out(problem, rules.data.validation_fraction) else learn).write(problem)
    if required:
        _require(learn.rows, f"data.{name}", cleaner.tallies, rules.quarantine)
    return cleaner.tallies


def _without_near_duplicates(
    found: Iterable[tuple[Origin, Problem]], staging: Path, rules: Rules
) -> Iterator[tuple[Origin, Problem]]:
    """The first of each family of near duplicates; a generator's problems differ on purpose and are all kept."""
    threshold = rules.data.near_duplicate_jaccard
    if threshold is None:
        yield from found
        return
    near = NearDuplicates(threshold)
    origins: list[Origin] = []

    def problems() -> Iterator[Problem]:
        for origin, problem in found:
            if not origin.source.generator:
                near.add(len(origins), origin.words(problem), problem.answer)
            origins.append(origin)
            yield problem

    with closing(Staged(staging, problems())) as staged:
        rules.progress("comparing near duplicates", len(staged))
        repeats = near.find(lambda key: origins[key].words(staged[key]))
        for origin, (key, problem) in zip(origins, enumerate(staged), strict=True):
            if key in repeats:
                origin.tally.remove(Reason.NEAR_DUPLICATE)
            else:
                yield origin, problem


def _is_held_out(problem: Problem, fraction: float) -> bool:
    """Decided by the content hash alone: adding or removing other problems moves none."""
    return int(problem.id[:16], 16) < fraction * 2**64


def _require(rows: int, field: str, tallies: list[Tally], quarantine: Quarantine) -> None:
    if not rows:
        raise DataError(
            f"{field}: no problem is left. {explain(tallies)}. The rows set aside are in {quarantine.path}, each with "
            "its reason"
        )


def _files(output: Path) -> list[Path]:
    known = [output / name for names in SETS.values() for name in names]
    return [*sorted((output / "benchmarks").glob("*.parquet")), *(path for path in known if path.exists())]


def _clear(output: Path) -> None:
    """Remove what an earlier preparation wrote, its manifest first: without one the folder counts as unfinished."""
    output.mkdir(parents=True, exist_ok=True)
    for path in (output / "manifest.json", *_files(output)):
        path.unlink(missing_ok=True)
