"""Going on from the last checkpoint of a step under other settings: `fipo train --continue`.

Other settings begin anew by default, since their result would else be of both. Who asks for it gets an identity of its
own, which is told apart from that of the same settings from the start, and a record of what has changed where.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.config import Role, load_config
from fipo.config.tree import flatten
from fipo.errors import ConfigError
from fipo.files import private_folder
from fipo.run.identity import Identity, identity_settings
from fipo.run.result import digest

if TYPE_CHECKING:
    from fipo.run.workspace import Workspace

FIXED = ("model", "data")
"""Sections in which another value is another training: its checkpoints are of no use."""
RECORD, IDENTITY, COMMIT = "continued.json", "identity.json", "COMMIT.json"


@dataclass(frozen=True, slots=True)
class Continued:
    """One change of settings on the way of a training."""

    after_step: int
    """The last step under the old settings."""
    changed: Mapping[str, tuple[Any, Any]]
    """Settings by name: what they were, and what they are since."""
    lineage: str
    """Of the training that was continued."""

    def __str__(self) -> str:
        changes = ", ".join(f"{name}: {before} -> {after}" for name, (before, after) in self.changed.items())
        return f"from step {self.after_step} of {self.lineage[:12]} ({changes})"


def continuing(workspace: Workspace) -> Workspace:
    """The same step, going on from its newest checkpoint in the run's folder, whatever settings that is of.

    Raises:
        ConfigError: there is no checkpoint, or what has changed since makes it one of another training.
    """
    checkpoint = _newest(workspace.directory.parent)
    if checkpoint is None:
        raise ConfigError(f"--continue: {workspace.directory.parent} has no checkpoint; run it without")
    folder = checkpoint.parents[1]
    before, own = Identity.read(folder / IDENTITY), workspace.identity
    if before.lineage == own.lineage:
        return workspace
    changed = _changed(workspace, folder)
    if before.inputs != own.inputs:
        names = ", ".join(name for name in own.inputs if before.inputs.get(name) != own.inputs[name])
        raise ConfigError(f"--continue: {names} has changed since {folder}, so it begins anew: run it without")
    if refused := [name for name in changed if name.partition(".")[0] in FIXED]:
        raise ConfigError(
            f"--continue: {', '.join(refused)} has changed since the checkpoint in {folder}; run it without"
        )
    if not changed:  # it was continued before
        return workspace.of_run.step(workspace.step, replace(before, fingerprint=_as_far(before, own)))
    step = int(json.loads((checkpoint / COMMIT).read_text(encoding="utf-8"))["step"])
    link = Continued(step, changed, before.lineage)
    identity = replace(
        own,
        fingerprint=digest(["continued", own.fingerprint, before.lineage, step]),
        lineage=digest(["continued", own.lineage, before.lineage, step]),
    )
    after = workspace.of_run.step(workspace.step, identity)
    _take_over(checkpoint, after.directory)
    chain = [*continued_in(folder), link]
    (after.directory / RECORD).write_text(json.dumps([asdict(one) for one in chain], indent=1), encoding="utf-8")
    print(f"[{workspace.step}] continues {link}", flush=True)
    return after


def continued_in(folder: Path) -> list[Continued]:
    """The changes of settings on the way of the training in a step's folder; empty for one that had none."""
    path = folder / RECORD
    return [Continued(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def _newest(folder: Path) -> Path | None:
    """The newest checkpoint of all lineages of a step."""
    commits = [path for path in folder.glob(f"*/checkpoints/step-*/{COMMIT}") if (path.parents[2] / IDENTITY).is_file()]
    return max(commits, key=lambda path: path.stat().st_mtime).parent if commits else None


def _changed(workspace: Workspace, folder: Path) -> dict[str, tuple[Any, Any]]:
    """Settings that count for the result, by name, with what they were in the folder and are now."""
    before, now = (
        dict(flatten(identity_settings(config, workspace.step, Role.LENGTH)))
        for config in (load_config(folder / "config.yaml"), workspace.config)
    )
    names = dict.fromkeys([*before, *now])
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _as_far(before: Identity, own: Identity) -> str:
    """The fingerprint of a continued training that shall go as far as the settings say now."""
    return before.fingerprint if before.settings == own.settings else digest([before.lineage, own.settings])


def _take_over(checkpoint: Path, after: Path) -> None:
    """Give a new training's folder the checkpoint of an older one, by links, and what was recorded up to there."""
    before = checkpoint.parents[1]
    shutil.rmtree(after, ignore_errors=True)
    private_folder(after)
    shutil.copytree(checkpoint, after / "checkpoints" / checkpoint.name, copy_function=os.link)
    if (before / "records").is_dir():
        shutil.copytree(before / "records", after / "records")
    journal = after / "journal.jsonl"
    shutil.copyfile(before / "journal.jsonl", journal)
    journal.with_suffix(".offset").write_text(str(journal.stat().st_size))  # the older training has sent it
