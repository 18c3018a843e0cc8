"""Which run is meant: one of this machine, by name or folder, or one in an object store, such as a cluster's."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fipo.config import Config, load_config
from fipo.errors import ConfigError, ObjectNotFound
from fipo.run.run import SETTINGS, Run
from fipo.storage import open_store

RUNS: Path = Config.model_fields["run"].default.directory
"""Where the runs of this machine are, unless their recipe says otherwise."""


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run to read."""

    run: Run
    """With its store and folder where they are for this machine, and what the user sets."""
    recorded: Run
    """The same without what the user sets: fingerprints follow from these settings."""
    key: str
    """`Run.key` of its settings as it has them."""
    in_store: bool
    """Whether it was found in an object store: it is read there, and nothing of it is changed."""


def find_run(reference: str, overrides: Sequence[str] = ()) -> FoundRun:
    """The run that a name in `runs`, a folder, or `s3://bucket/prefix/RUN` (or `file://`) means.

    A run of a store works in a folder of its own in `runs` on this machine.

    Args:
        reference: the run.
        overrides: `tracking.uri=…` and `links.…=…`, for a machine that reaches servers elsewhere than the run did.

    Raises:
        ConfigError: there is no such run, or something else is to be set.
        StorageError: the store cannot be read.
    """
    for override in overrides:
        if not override.startswith(("tracking.uri=", "links.")):
            raise ConfigError(
                f"--set {override!r}: a run that is read keeps its settings; only tracking.uri and links.* may be set, "
                "for servers that this machine reaches at another address"
            )
    if "://" in reference:
        return _in_store(reference.rstrip("/"), overrides)
    for folder in (Path(reference), RUNS / reference):
        if (folder / SETTINGS).is_file():
            return _in_folder(folder, overrides)
    known = sorted(path.parent.name for path in RUNS.glob(f"*/{SETTINGS}"))
    raise ConfigError(
        f"run {reference!r}: no {RUNS / reference / SETTINGS} here; {RUNS}/ has {', '.join(known) or 'no run'}. "
        f"Elsewhere a run is its folder, of a cluster storage.uri and its name: s3://bucket/prefix/{Path(reference).name}"
    )


def distinct(runs: Sequence[FoundRun]) -> dict[str, Run]:
    """The runs by name, with as much of their place before it as tells runs of one name in several stores apart.

    Raises:
        ConfigError: one was given twice, or there are fewer than two.
    """
    places = [found.run.results.uri.split("/") for found in runs]
    names = labels = [place[-1] for place in places]
    if len({tuple(place) for place in places}) < max(2, len(runs)):
        raise ConfigError(f"compare: expected at least two different runs; got {', '.join(names) or 'none'}")
    parts = 1
    while len(set(labels)) < len(labels):
        parts += 1
        labels = ["/".join(place[-parts if names.count(place[-1]) > 1 else -1 :]) for place in places]
    return {label: found.run for label, found in zip(labels, runs, strict=True)}


def _in_folder(folder: Path, overrides: Sequence[str]) -> FoundRun:
    own = load_config(folder / SETTINGS)
    here = []
    if own.run_directory.resolve() != folder.resolve() and own.run.name == folder.resolve().name:  # it was moved
        here = [f"run.directory={json.dumps(str(folder.resolve().parent))}"]
    config, recorded = (load_config(folder / SETTINGS, [*here, *more]) for more in (overrides, ()))
    return FoundRun(Run(config), Run(recorded), Run(own).key, in_store=False)


def _in_store(uri: str, overrides: Sequence[str]) -> FoundRun:
    place, _, name = uri.rpartition("/")
    if place.endswith("/"):
        raise ConfigError(f"run {uri!r}: expected the address of a run, s3://bucket/prefix/RUN or file:///folder/RUN")
    store = open_store(place)
    try:
        settings = store.get(f"{name}/{SETTINGS}")
    except ObjectNotFound:
        begun = next(iter(store.list(f"{name}/")), None)
        why = f"it was made before fipo kept {SETTINGS} there: submit it once more, finished steps are reused"
        raise ConfigError(
            f"run {uri!r}: no {uri}/{SETTINGS}; "
            + (why if begun else f"{place} holds no run of this name: check storage.uri and the run's name")
        ) from None
    here: Mapping[str, object] = {
        "run.name": name,
        "run.directory": str(RUNS / _folder_of(store.uri)),
        "storage.uri": store.uri,
        "trainjob.runtime": "",
    }
    located = [f"{key}={json.dumps(value)}" for key, value in here.items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SETTINGS
        path.write_bytes(settings)
        own, recorded = load_config(path), load_config(path, located)
        config = load_config(path, [*located, f"tracking.uri={json.dumps(own.tracking_uri)}", *overrides])
    return FoundRun(Run(config), Run(recorded), Run(own).key, in_store=True)


def _folder_of(store_uri: str) -> str:
    """`bucket-1f3a5b`: a name for people, and what tells stores apart."""
    name = store_uri.rstrip("/").rpartition("/")[2] or "store"
    return f"{name}-{hashlib.sha256(store_uri.encode()).hexdigest()[:6]}"
