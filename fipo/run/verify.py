"""What a model was trained on, proven from the object store: from the registered version back to the raw files.

Each link is something that one step says it read, or left, held against what is there: every byte of an output against
its manifest, and the manifest against the digest that the next step recorded when it read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fipo.errors import ConfigError, FipoError, StorageError
from fipo.inputs import external_inputs
from fipo.records import Registration
from fipo.run.code import code_digest
from fipo.run.identity import digest_in
from fipo.run.result import StepResult
from fipo.run.step import STEPS
from fipo.storage import check_directory, open_store

if TYPE_CHECKING:
    from fipo.config import Config
    from fipo.run.run import Run

GOAL = "register"
"""The step that names the model."""


@dataclass(frozen=True, slots=True)
class Link:
    """One thing that is claimed of a run."""

    step: str
    what: str
    """`left model`, `read prepare/dataset`, `read data.train[0]`."""
    digest: str
    """That which is claimed."""
    holds: bool | None
    """None where it cannot be told from here."""
    why: str = ""
    """What was found instead, or why it cannot be told."""


def verify(run: Run) -> list[Link]:
    """All links of the run's newest registered model, the model first.

    Raises:
        ConfigError: the run has registered none.
    """
    registered = run.result(GOAL)
    if registered is None:
        raise ConfigError(f"run {run.name!r}: no model is registered, says {run.results.uri}; run `fipo register`")
    return [_version(registered, run.config), *_back_from(registered, run, set())]


def _version(registered: StepResult, config: Config) -> Link:
    """The version in the registry, which names the weights."""
    from fipo.release.registry import find

    model = registered.read(Registration)
    what = f"{model.name} version {model.version}"
    try:
        found = find(config.tracking_uri, f"{model.name}/{model.version}").sha256
    except FipoError as error:
        return Link(GOAL, what, model.sha256, None, f"MLflow does not say: {error}")
    holds = found == model.sha256 == registered.inputs.get("train/model")
    return Link(GOAL, what, model.sha256, holds, "" if holds else f"the registry says {found or 'nothing'}")


def _back_from(result: StepResult, run: Run, seen: set[str]) -> Iterator[Link]:
    """The links of one result, then those of the results that it was made from."""
    yield _computed(result)
    yield from _left(result)
    yield from _outside(result, run.config)
    for entry in STEPS[result.step].reads:
        step, _, output = entry.partition("/")
        wanted = result.inputs.get(entry, "")
        made = (found for found in run.results.history(step) if digest_in(found, output) == wanted)
        source = next(made, None)
        why = "" if source else f"{step} has left no such {output or 'result'}"
        yield Link(result.step, f"read {entry}", wanted, source is not None, why)
        if source and source.fingerprint not in seen:
            seen.add(source.fingerprint)
            yield from _back_from(source, run, seen)


def _computed(result: StepResult) -> Link:
    """The code that computed a result; another one than this installation's cannot be looked at from here."""
    what = f"computed by fipo {result.versions.get('fipo', '')}".rstrip()
    same = result.code == code_digest()
    return Link(result.step, what, result.code, same or None, "" if same else "other code is installed here")


def _left(result: StepResult) -> Iterator[Link]:
    """Outputs of a step, byte for byte."""
    for name, output in result.outputs.items():
        try:
            found, why = check_directory(open_store(output.uri), "").sha256, ""
        except StorageError as error:
            found, why = "", str(error)
        holds = found == output.sha256
        yield Link(result.step, f"left {name}", output.sha256, holds, why or ("" if holds else f"is now {found}"))


def _outside(result: StepResult, config: Config) -> Iterator[Link]:
    """What a step read that no step made, as far as it is within reach."""
    names = [name for name in result.inputs if name not in STEPS[result.step].reads]
    try:
        now = external_inputs(config, result.step, cache=config.run.directory / "digests.json") if names else {}
        why = ""
    except FipoError as error:
        now, why = {}, f"not within reach: {error}"
    for name in names:
        claimed, found = result.inputs[name], now.get(name)
        if found is None:
            yield Link(result.step, f"read {name}", claimed, None, why or "no longer among the settings")
        else:
            holds = found.digest == claimed
            yield Link(
                result.step, f"read {name} ({found.uri})", claimed, holds, "" if holds else f"is now {found.digest}"
            )
