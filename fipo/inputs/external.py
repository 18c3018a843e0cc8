"""The inputs of each step that come from outside its run, each with the digest of what is in it now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fipo.config import Config, Model, Source
from fipo.errors import ConfigError, DataError, ObjectNotFound
from fipo.inputs.digests import Digests
from fipo.inputs.files import files_under, model_files, module_files
from fipo.storage import open_store

_HUB_NAME = re.compile(r"(?!\.)[\w.-]{1,96}(?<!\.)(/(?!\.)[\w.-]{1,96}(?<!\.))?")


@dataclass(frozen=True, slots=True)
class ExternalInput:
    """Something that a step reads and no step made."""

    uri: str
    """As the setting has it."""
    digest: str
    """`sha256:HEX` of a file, or of a folder's names and contents; `s3:ETAG:BYTES`; `hub:COMMIT`."""
    size: int | None = None
    """Bytes; None where only the commit is known."""


Found = Iterator[tuple[str, ExternalInput]]

A_DATA_SET = "a file (JSONL, JSON array, CSV, parquet), a folder in the hub's layout, or hf://organisation/name"


def external_inputs(config: Config, step: str, *, cache: Path) -> dict[str, ExternalInput]:
    """What `step` reads from outside the run, by the setting that names it.

    Args:
        config: all settings.
        step: its name; what other steps made is not told here.
        cache: a file that remembers digests of local files, so that they are read once.

    Raises:
        DataError: data is missing or cannot be read.
        ConfigError: there is no such model or reward function.
        StorageError: the object store refused.
    """
    with Digests(cache) as digests:
        return {setting: found for read in _READERS.get(step, ()) for setting, found in read(config, digests)}


def describe(inputs: Mapping[str, ExternalInput]) -> str:
    """For messages: `train.jsonl (sha256 3fa2c1d0, 1,234 bytes), org/name (hub 607a30d7) and 3 more`."""
    told = [_describe(one) for one in list(inputs.values())[:4]]
    more = f" and {len(inputs) - len(told)} more" if len(inputs) > len(told) else ""
    return ", ".join(told) + more


def _describe(one: ExternalInput) -> str:
    kind, _, digest = one.digest.partition(":")
    name = one.uri.removeprefix("hf://") if kind == "hub" else Path(one.uri).name
    size = "" if one.size is None else f", {one.size:,} bytes"
    return f"{name} ({kind} {digest[:8]}{size})"


def _data(config: Config, digests: Digests) -> Found:
    for setting, source in config.data.sources.items():
        if source.uri:
            with named(f"{setting}.uri", A_DATA_SET):
                found = _source(source, digests)
            yield setting, found


def _source(source: Source, digests: Digests) -> ExternalInput:
    from fipo.data.sources import commit_of, local_path

    uri, hub_name = source.uri, source.uri.removeprefix("hf://")
    if uri.startswith("s3://"):
        folder, _, key = uri.rpartition("/")
        info = open_store(folder).stat(key)
        return ExternalInput(uri, f"s3:{info.etag}:{info.size}", info.size)
    path = local_path(uri) if hub_name == uri else Path(hub_name)
    if path.is_dir():  # which `datasets` prefers to the hub's
        return _all(uri, files_under(path), digests)
    if hub_name != uri:
        return ExternalInput(uri, f"hub:{commit_of(source)}")
    digest = digests.of(path)
    return ExternalInput(uri, f"sha256:{digest.sha256}", digest.size)


def _model(config: Config, digests: Digests, *, weights: bool) -> Found:
    name = config.model.name_or_path
    if name:
        with named("model.name_or_path", "a folder with a model in safetensors, or organisation/name on the hub"):
            if Path(name).is_dir():
                found = _all(name, model_files(Path(name), weights=weights), digests)
            else:
                found = ExternalInput(name, f"hub:{model_commit(config.model)}")
        yield "model", found


def model_commit(model: Model) -> str:
    """The commit that `from_pretrained` loads: a pinned one; else the hub's; where that cannot be had, the kept one.

    Raises:
        ConfigError: there is none, or the name is that of a folder, and there is no such folder.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import REGEX_COMMIT_HASH

    name, revision = model.name_or_path, model.revision or None
    if not _may_be_on_the_hub(name):
        raise ConfigError(f"{name!r} is no folder here, and no name on the hub")
    if REGEX_COMMIT_HASH.fullmatch(model.revision):
        return model.revision
    try:
        return str(HfApi().model_info(name, revision=revision, timeout=10).sha)
    except (HTTPError, OSError, ValueError) as error:
        try:
            kept = hf_hub_download(name, "config.json", revision=revision, local_files_only=True)
        except (OSError, ValueError):
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{name!r} is no folder here, the hub does not give it ({reason}), and no copy is kept (a private one "
                "needs HF_TOKEN; without a way to the hub, load it once where there is one, and bring HF_HOME along)"
            ) from error
        return Path(kept).parent.name


def _may_be_on_the_hub(name: str) -> bool:
    """Whether it has the form `name` or `organisation/name`, and nothing says that a folder is meant."""
    above = Path(name).parent
    return bool(_HUB_NAME.fullmatch(name)) and not (above != Path() and above.is_dir())


def _rewards(config: Config, digests: Digests) -> Found:
    for name in config.reward.functions:
        yield from _function(f"reward.functions.{name}", name, digests)


def _graders(config: Config, digests: Digests, *, sets: str) -> Found:
    """Graders and environments of one's own, of the sources that the step reads."""
    for setting, source in config.data.sources.items():
        if setting.startswith(sets):
            yield from _function(f"{setting}.grader", source.grader, digests)
            yield from _function(f"{setting}.environment", source.environment, digests, "package.module:Class")


def _function(setting: str, name: str, digests: Digests, expected: str = "package.module:function") -> Found:
    """The sources of a function or class; none of one that is built in."""
    from fipo.rewards.names import module_of

    module = module_of(name)
    if module:
        with named(setting, expected):
            found = _all(name, module_files(module), digests)
        yield setting, found


_READERS: Mapping[str, tuple[Callable[[Config, Digests], Found], ...]] = {
    "prepare": (_data, partial(_model, weights=False), partial(_graders, sets="data.")),  # the tokenizer of the model
    "sft": (partial(_model, weights=True),),
    "train": (_rewards, partial(_graders, sets="data.train")),
    "evaluate": (partial(_graders, sets="data.benchmarks"),),
    "score": (partial(_graders, sets="data.benchmarks"),),
}
"""By step; the others read only what steps of the run made."""


def _all(uri: str, files: Mapping[str, Path], digests: Digests) -> ExternalInput:
    manifest = digests.of_all(files)
    return ExternalInput(uri, f"sha256:{manifest.sha256}", manifest.size)


@contextmanager
def named(setting: str, expected: str) -> Iterator[None]:
    """Say which setting is wrong, and what it takes."""
    try:
        yield
    except (OSError, DataError, ObjectNotFound) as error:
        raise DataError(f"{setting}: {error}; expected {expected}") from error
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}; expected {expected}") from error
