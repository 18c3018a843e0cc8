"""What a study asked for before anything was seen: a copy of its file, kept beside it when the first trial starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fipo.files import replacing


@dataclass(frozen=True, slots=True)
class Registration:
    """A study's file as it was."""

    sha256: str
    time: str
    """ISO 8601, UTC."""
    text: str


def register(study: Path) -> Registration:
    """Keep the study's file as it is now, unless an earlier one is kept; returns what is kept."""
    if found := registered(study):
        return found
    text = study.read_text(encoding="utf-8")
    made = Registration(_digest(text), datetime.now(UTC).isoformat(timespec="seconds"), text)
    with replacing(_path(study)) as path:
        path.write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    return made


def registered(study: Path) -> Registration | None:
    """What was kept before the first trial; None if nothing was."""
    path = _path(study)
    return Registration(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def standing(study: Path) -> str:
    """One sentence: whether the study that is reported is the one that was registered."""
    found = registered(study)
    if not found:
        return "The study was not registered: what it compares may have been chosen by what was seen."
    kept = f"Registered {found.time}, before the first trial, with the digest `{found.sha256[:12]}`"
    if _digest(study.read_text(encoding="utf-8")) == found.sha256:
        return f"{kept}; the file is unchanged."
    return f"{kept}; **the file was changed since**: what is in it now may have been chosen by what was seen."


def _path(study: Path) -> Path:
    return study.with_suffix(".registered.json")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
