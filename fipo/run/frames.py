"""What a run has recorded, as pandas DataFrames."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fipo.errors import DataError, ObjectNotFound
from fipo.run.result import StepResult
from fipo.run.rollouts import opened
from fipo.run.step import step_named
from fipo.storage import ObjectStore
from fipo.tracking import read_journal

if TYPE_CHECKING:
    import pandas as pd

    from fipo.run.run import Run


def rollouts(run: Run, step: int | None) -> pd.DataFrame:
    """See `Run.rollouts`."""
    import pandas as pd

    records = run.rollout_records()
    lineage, steps = run.trained_steps()
    if step is not None and step not in steps:
        raise DataError(f"run {run.name!r}: no step {step!r} is recorded; there are {steps[0]} to {steps[-1]}")
    frames = [records.whole(lineage, one).to_pandas() for one in (steps if step is None else [step])]
    return pd.concat(frames, ignore_index=True)


def metrics(run: Run, step: str) -> pd.DataFrame:
    """See `Run.metrics`."""
    import pandas as pd

    step = step_named(step).name
    journals = sorted((run.directory / step).glob("*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    points = read_journal(journals[-1]) if journals else _published(run, step)
    values: dict[int, dict[str, float]] = {}
    for at, logged in points:
        own = {name: value for name, value in logged.items() if not name.startswith("system/")}  # by samples, not steps
        if own:
            values.setdefault(at, {}).update(own)
    frame = pd.DataFrame.from_dict(values, orient="index").sort_index()
    frame.index.name = "step"
    return frame


def problems(run: Run) -> pd.DataFrame:
    """See `Run.problems`."""
    import pandas as pd

    store, output = run.results.store, _result(run, "evaluate").outputs["results"]
    frames = []
    for info in store.list(f"{_key(store, output.uri)}/"):
        path = PurePosixPath(info.key)
        if path.name.endswith("-responses.parquet"):
            with opened(store, info.key) as file:
                frame = file.read().to_pandas()
            frame.insert(0, "model", path.parent.name)
            frame.insert(1, "benchmark", path.name.removesuffix("-responses.parquet"))
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _published(run: Run, step: str) -> list[tuple[int, dict[str, float]]]:
    """The journal that a finished step, on whatever machine, has put among its records."""
    store, records = run.results.store, _result(run, step).outputs.get("records")
    if records is None:
        raise ObjectNotFound(f"run {run.name!r}: the metrics of {step!r} are where it ran, and in MLflow")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        store.download(f"{_key(store, records.uri)}/journal.jsonl", path)
        return read_journal(path)


def _key(store: ObjectStore, uri: str) -> str:
    return uri.removeprefix(store.uri).strip("/")


def _result(run: Run, step: str) -> StepResult:
    result = run.result(step)
    if result is None:
        raise ObjectNotFound(f"run {run.name!r}: step {step!r} has not finished")
    return result
