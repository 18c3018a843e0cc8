"""The tables of an evaluation: one parquet row a response, and one a problem."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fipo.errors import DataError
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.files import replacing
from fipo.outcome import Outcome

RESPONSES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("reference_answer", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("response_tokens", pa.int32(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("vote", pa.string()),
    ]
)
"""One row a response; `fipo.evaluation` reads all results back from this table alone."""

PROBLEMS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("reference_answer", pa.string(), nullable=False),
        pa.field("samples", pa.int32(), nullable=False),
        pa.field("correct", pa.int32(), nullable=False),
        pa.field("avg_at_k", pa.float64(), nullable=False),
        pa.field("cons_at_k", pa.float64(), nullable=False),
        pa.field("pass_at_k", pa.float64(), nullable=False),
        pa.field("majority_answer", pa.string()),
        pa.field("majority_share", pa.float64(), nullable=False),
        pa.field("mean_response_tokens", pa.float64(), nullable=False),
        pa.field("truncated", pa.int32(), nullable=False),
        pa.field("contaminated", pa.bool_(), nullable=False),
    ]
)
"""One row a problem."""


def responses_table(problems: Iterable[ProblemResult]) -> pa.Table:
    """Every response, `RESPONSES_SCHEMA`."""
    rows = [
        {
            "id": problem.id,
            "problem": problem.problem,
            "reference_answer": problem.answer,
            "sample": sample,
            "response": response.text,
            "answer": response.answer,
            "outcome": response.outcome.value,
            "response_tokens": response.tokens,
            "truncated": response.truncated,
            "vote": response.vote,
        }
        for problem in problems
        for sample, response in enumerate(problem.responses)
    ]
    return pa.Table.from_pylist(rows, schema=RESPONSES_SCHEMA)


def problems_table(problems: Iterable[ProblemResult], contaminated: Container[str] = ()) -> pa.Table:
    """Every problem with its scores, `PROBLEMS_SCHEMA`; `contaminated` ids are in the training data too."""
    rows = [
        {
            "id": problem.id,
            "problem": problem.problem,
            "reference_answer": problem.answer,
            "samples": len(problem.responses),
            "correct": problem.correct,
            "avg_at_k": problem.avg_at_k,
            "cons_at_k": problem.cons_at_k,
            "pass_at_k": problem.pass_at_k,
            "majority_answer": problem.majority[0],
            "majority_share": problem.majority[1],
            "mean_response_tokens": float(problem.response_tokens.mean()),
            "truncated": problem.truncated,
            "contaminated": problem.id in contaminated,
        }
        for problem in problems
    ]
    return pa.Table.from_pylist(rows, schema=PROBLEMS_SCHEMA)


def write_result(result: BenchmarkResult, directory: Path, contaminated: Container[str] = ()) -> tuple[Path, Path]:
    """Write `<benchmark>-responses.parquet` and `<benchmark>-problems.parquet` into `directory`; return both paths."""
    responses = directory / f"{result.benchmark}-responses.parquet"
    problems = directory / f"{result.benchmark}-problems.parquet"
    write_table(responses_table(result.problems), responses, benchmark=result.benchmark)
    write_table(problems_table(result.problems, contaminated), problems, benchmark=result.benchmark)
    return responses, problems


def read_result(responses: Path) -> BenchmarkResult:
    """Read a result back from its table of responses.

    Raises:
        DataError: the file is missing, is no parquet or has other columns.
    """
    problems, metadata = read_problems(responses)
    return BenchmarkResult(metadata["benchmark"], problems)


def read_results(folder: Path, benchmarks: Iterable[str]) -> dict[str, BenchmarkResult]:
    """The results in a folder that `write_result` filled, by benchmark; those that it has not are left out."""
    tables = {name: folder / f"{name}-responses.parquet" for name in benchmarks}
    return {name: read_result(path) for name, path in tables.items() if path.is_file()}


def write_table(table: pa.Table, path: Path, **metadata: str) -> None:
    """Write parquet with `metadata` in its schema; the file appears whole or not at all."""
    with replacing(path) as unfinished:
        pq.write_table(table.replace_schema_metadata(metadata), unfinished, compression="zstd")


def read_problems(path: Path) -> tuple[tuple[ProblemResult, ...], dict[str, str]]:
    """Read a table of responses, and the metadata that `write_table` put there.

    Raises:
        DataError: the file is missing, is no parquet or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: expected a table of responses in parquet: {error}") from error
    if not table.schema.equals(RESPONSES_SCHEMA):
        expected = ", ".join(RESPONSES_SCHEMA.names)
        raise DataError(f"{path}: expected the columns {expected}; found {', '.join(table.column_names)}")
    metadata = table.schema.metadata or {}
    return tuple(_problems(table)), {key.decode(): value.decode() for key, value in metadata.items()}


def _problems(table: pa.Table) -> Iterator[ProblemResult]:
    for _, group in groupby(table.to_pylist(), key=lambda row: row["id"]):
        rows = list(group)
        responses = (
            GradedResponse(
                text=row["response"],
                answer=row["answer"],
                outcome=Outcome(row["outcome"]),
                tokens=row["response_tokens"],
                truncated=row["truncated"],
                vote=row["vote"],
            )
            for row in rows
        )
        yield ProblemResult(rows[0]["id"], rows[0]["problem"], rows[0]["reference_answer"], tuple(responses))
