"""Damage to files that a run has left, by kind of file."""

import random
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tests.overwritten import overwrite

WAYS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": lambda data, generator: _flip(data, generator),
    "truncate": lambda data, generator: data[: generator.randrange(max(1, len(data)))],
    "empty": lambda data, generator: b"",
    "delete": lambda data, generator: None,
    "garbage": lambda data, generator: generator.randbytes(max(16, len(data) // 2)),
}
"""What is left of a file's contents; None where the file is gone."""


def _flip(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def kinds(runs: Path) -> dict[str, list[Path]]:
    """Files below a folder by their kind: their path without what differs between runs and steps' settings."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(runs.rglob("*")):
        if path.is_file() and path.name != "mlflow.db":  # a database is its administrator's to back up
            name = re.sub(r"[0-9a-f]{12,64}", "F", path.relative_to(runs).as_posix())
            found[re.sub(r"\d+", "N", name)].append(path)
    return found


def apply(way: str, path: Path, seed: int) -> None:
    """Damage a file in this way."""
    left = WAYS[way](path.read_bytes(), random.Random(seed))
    if left is None:
        path.unlink()
    else:
        overwrite(path, left)
