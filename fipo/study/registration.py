"""What a study asked for before anything was seen: a copy of its file, kept beside it when the first trial starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fipo.files import replacing
from fipo.study.study import load_study


@dataclass(frozen=True, slots=True)
class Registration:
    """A study's file as it was."""

    sha256: str
    time: str
    """ISO 8601, UTC."""
    text: str
    begun: int = 0
    """Trials that had begun by then: what is registered after them may have been chosen by what was seen."""
    recipes: dict[str, str] = field(default_factory=dict)
    """By task, the SHA-256 of its recipe where that is a file."""


def register(study: Path, begun: int = 0) -> Registration:
    """Keep the study's file as it is now, unless an earlier one is kept; returns what is kept.

    Args:
        study: its file.
        begun: how many of its trials there are already.
    """
    if found := registered(study):
        return found
    text, now = study.read_text(encoding="utf-8"), datetime.now(UTC).isoformat(timespec="seconds")
    made = Registration(_digest(text), now, text, begun, _recipes(study))
    with replacing(_path(study)) as path:
        path.write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    return made


def registered(study: Path) -> Registration | None:
    """What was kept; None if nothing was."""
    path = _path(study)
    return Registration(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def standing(study: Path) -> str:
    """One sentence: whether the study that is reported is the one that was registered."""
    found = registered(study)
    if not found:
        return "The study was not registered: what it compares may have been chosen by what was seen."
    when = f"**after {found.begun} of its trials had begun**" if found.begun else "before the first trial"
    kept = f"Registered {found.time}, {when}, with the digest `{found.sha256[:12]}`"
    changed = [] if _digest(study.read_text(encoding="utf-8")) == found.sha256 else ["the file"]
    now = _recipes(study) if found.recipes else {}
    changed += [f"the recipe of {task}" for task, digest in found.recipes.items() if now.get(task) != digest]
    if not changed:
        return f"{kept}; the file is unchanged."
    what = " and ".join(changed)
    were = "was" if len(changed) == 1 else "were"
    return f"{kept}; **{what} {were} changed since**: what is compared now may have been chosen by what was seen."


def _recipes(study: Path) -> dict[str, str]:
    files = {name: Path(task.recipe) for name, task in load_study(study).tasks.items()}
    return {name: _digest(path.read_text(encoding="utf-8")) for name, path in files.items() if path.is_file()}


def _path(study: Path) -> Path:
    return study.with_suffix(".registered.json")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
