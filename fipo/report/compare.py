"""`fipo compare`: finished runs side by side, read from what they left in the object store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from fipo.errors import ConfigError
from fipo.evaluation.results import BenchmarkResult
from fipo.evaluation.tables import read_results
from fipo.figures import to_png
from fipo.report.benchmark_figures import comparison_figure
from fipo.run.run import Run
from fipo.storage import download_directory, open_store

Runs = Mapping[str, BenchmarkResult]
"""What each run's trained model answered to one benchmark, by run; the first is the baseline."""


def compare_runs(runs: Mapping[str, Run]) -> dict[str, Runs]:
    """By benchmark, what runs have answered, by the name they shall have; only benchmarks that all of them answered.

    Raises:
        ConfigError: one is not evaluated, or they have no benchmark in common.
    """
    answers = {name: _answers(run) for name, run in runs.items()}
    first = next(iter(answers.values()))
    shared = [name for name in first if all(name in others for others in answers.values())]
    if not shared:
        own = "; ".join(f"{name}: {', '.join(results)}" for name, results in answers.items())
        raise ConfigError(f"compare: the runs have no benchmark in common ({own})")
    return {benchmark: {name: results[benchmark] for name, results in answers.items()} for benchmark in shared}


def figure_name(runs: Iterable[Run]) -> str:
    """`compare-dapo-fipo.png`; of many runs the first and a digest, since a file's name has an end."""
    names = "-".join(run.name for run in runs)
    if len(names) > 150:
        names = f"{names[:100]}-{sha256(names.encode()).hexdigest()[:8]}"
    return f"compare-{names}.png"


def write_figures(benchmarks: Mapping[str, Runs], path: Path) -> list[Path]:
    """One PNG a benchmark: at `path`, or beside it with the benchmark in the name where there are several."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for benchmark, runs in benchmarks.items():
        file = path if len(benchmarks) == 1 else path.with_stem(f"{path.stem}-{benchmark}")
        file.write_bytes(to_png(comparison_figure(runs)))
        written.append(file)
    return written


def _answers(run: Run) -> dict[str, BenchmarkResult]:
    result = run.result("evaluate")
    if result is None:
        raise ConfigError(
            f"run {run.name!r}: not evaluated yet, {run.config.storage_uri} has no result of that; run "
            "`fipo evaluate` with its recipe first, or wait until the pipeline has"
        )
    with tempfile.TemporaryDirectory() as folder:
        download_directory(open_store(result.outputs["results"].uri), "", Path(folder))
        return read_results(Path(folder) / "trained", run.config.data.benchmarks)
