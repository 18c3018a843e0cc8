"""`fipo init`: a recipe, rows, a benchmark and a reward function that run as they are, to be changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.config import RunningSums, load_config
from fipo.data.running_sums import generate
from fipo.errors import ConfigError
from fipo.init.models import DEFAULT, FoundModel, look_at_model, shapes_of
from fipo.init.rows import ASKS, FoundData, look_at_data

if TYPE_CHECKING:
    from fipo.init.machines import Sizes

RECIPE, BENCHMARK, REWARDS = "recipe.yaml", "benchmark.yaml", "my_rewards.py"
ROWS, BENCHMARK_ROWS = "problems.jsonl", "benchmark.jsonl"
EXAMPLES = RunningSums(digits=5, modulus=2, worked=0.5, partly=0.0, seed=1)
"""The task of the rows that are written where none are given: parity, half of the demonstrations with every step.
Twenty rows do for a model made in seconds: a guess is right every other time, and that is enough to learn from."""


def init(
    folder: Path,
    *,
    data: Path | None = None,
    model: str = "",
    machine: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[str]:
    """Write the files; returns what to do next, as lines.

    Args:
        folder: made if need be.
        data: rows of one's own; None writes twenty examples.
        model: a folder or a name on the hub; empty makes a tiny one for the examples, and takes a small instruct model
            of the hub for rows of one's own.
        columns: of `data`, those that hold `prompt`, `answer` and `response`; what is not named is told by the names.
        machine: one of `fipo.planning.hardware.KINDS`; None is what this machine is like.

    Raises:
        ConfigError: a file of this name is there, or the columns cannot be told.
        DataError: the rows cannot be read.
    """
    there = [name for name in (RECIPE, BENCHMARK, REWARDS, ROWS, BENCHMARK_ROWS) if (folder / name).exists()]
    if there:
        raise ConfigError(f"init: {folder / there[0]} is there already: name another folder, or remove it")
    kind = machine or this_kind()
    found = look_at_data(data, columns) if data else None
    start = look_at_model(model, folder) if model or found else None
    folder.mkdir(parents=True, exist_ok=True)
    if found is None:
        rows = list(generate(EXAMPLES, 28))
        _write_rows(folder / ROWS, rows[:20])
        _write_rows(folder / BENCHMARK_ROWS, rows[20:])
    else:
        _write_rows(folder / BENCHMARK_ROWS, found.benchmark)
    context: dict[str, Any] = {"name": _run_name(folder), "data": found, "model": start, "machine": None, "kind": kind}
    context |= {"uri": os.path.relpath(data, folder) if data else ROWS, "default_model": DEFAULT}
    sized = ""
    if start:
        from fipo.init.machines import smallest

        context["machine"] = smallest(kind)
        _write(folder, context)
        context["machine"], sized = _sizes(folder, kind)
    _write(folder, context)
    return _next(folder, found, start, kind, sized)


def this_kind() -> str:
    """The kind of this machine, by its GPUs, without a library that takes seconds to import."""
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return "node" if gpus > 1 else "one-gpu" if gpus else "laptop"


def _sizes(folder: Path, kind: str) -> tuple[Sizes, str]:
    """What the machine can do with the model of the recipe in `folder`, and that for people."""
    from fipo.init.machines import devices_of, fitted, smallest

    recipe = str(folder / RECIPE)
    try:
        shapes = shapes_of(load_config(recipe).model)
    except ConfigError as error:
        return smallest(kind), f"the smallest, not fitted to the model: {error}"
    devices = devices_of(kind)
    sizes, plan = fitted(kind, lambda more: load_config(recipe, more), shapes, devices)
    hours = sizes.steps * plan.time.total / 3600
    fits = f"{plan.memory.peak / 2**30:.1f} of {plan.available / 2**30:.1f} GiB of each of {plan.gpus} rank(s)"
    verdict = (
        f"by plan {fits}, {plan.time.total / 60:.1f} minutes a step, {hours:.1f} hours of RL"
        if plan.fits
        else f"too small: {plan.problem}"
    )
    return sizes, f"{devices.name}; {verdict}"


def _write(folder: Path, context: dict[str, Any]) -> None:
    for name in (RECIPE, BENCHMARK, REWARDS):
        (folder / name).write_text(_fill(f"{name}.jinja", context), encoding="utf-8")


def _next(folder: Path, found: FoundData | None, start: FoundModel | None, kind: str, sized: str) -> list[str]:
    recipe = folder / RECIPE
    lines = [f"wrote {recipe} for {kind}, and beside it {BENCHMARK}, {BENCHMARK_ROWS} and {REWARDS}"]
    if found:
        lines.append(f"columns: {found.describe()}")
    if start:
        lines += [f"model:   {start.describe()}", f"sizes:   {sized}"]
    return [*lines, "next:", f"  fipo check --recipe {recipe}", f"  fipo run --recipe {recipe}"]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows), encoding="utf-8")


def _fill(name: str, context: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    template = files("fipo") / "init" / name
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    # JSON is YAML, whatever is in a name.
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["asks"] = "{prompt}\n" + ASKS["math"]
    return environment.from_string(template.read_text(encoding="utf-8")).render(context)


def _run_name(folder: Path) -> str:
    """The folder's, in the letters that a run's may have."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in folder.resolve().name.lower())
    return name.strip("-")[:40] or "mine"
