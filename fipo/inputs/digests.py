"""SHA-256 of local files. A file that was read once is not read again while it stays as it is."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from fipo.errors import DataError
from fipo.files import replacing
from fipo.storage import DirectoryManifest, FileDigest

ATTEMPTS = 3
"""Times that a file is read which changes meanwhile."""
SETTLED_SECONDS = 2.0
"""A file written to within this time is not remembered: it can change once more without its time of change telling."""
REPORT_SECONDS = 5.0
CHUNK_BYTES = 1 << 20


class Digests:
    """Digests of files, remembered in the JSON file `cache` when the block ends; a damaged one counts as none."""

    def __init__(self, cache: Path) -> None:
        self._cache, self._known = cache, _load(cache)
        self._new: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._new:
            with suppress(OSError):  # then the files are read once more
                _save(self._cache, {**_load(self._cache), **self._new})

    def of(self, path: Path) -> FileDigest:
        """SHA-256 and size of a file.

        Raises:
            OSError: it cannot be read.
            DataError: it changes all the time.
        """
        path = path.absolute()
        state, known = _state(path), self._known.get(str(path))
        if isinstance(known, list) and known[:-1] == state and isinstance(known[-1], str):
            return FileDigest(known[-1], state[0])
        state, sha256 = _read(path)
        if time.time() - state[1] / 1e9 > SETTLED_SECONDS:
            self._known[str(path)] = self._new[str(path)] = [*state, sha256]
        return FileDigest(sha256, state[0])

    def of_all(self, files: Mapping[str, Path]) -> DirectoryManifest:
        """Of files by name: equal names and contents have one digest, wherever they are."""
        return DirectoryManifest({name: self.of(files[name]) for name in sorted(files)})


def _read(path: Path) -> tuple[list[int], str]:
    for _ in range(ATTEMPTS):
        state, sha256 = _state(path), _sha256(path)
        if _state(path) == state:
            return state, sha256
    raise DataError(f"{path} was read {ATTEMPTS} times and changed each time: wait until its writer is done")


def _state(path: Path) -> list[int]:
    """What changes with the contents: size, times of change, and the inode, which tells of a replacement."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _sha256(path: Path) -> str:
    digest, told = hashlib.sha256(), time.monotonic()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if time.monotonic() - told > REPORT_SECONDS:
                told = time.monotonic()
                share = file.tell() / max(path.stat().st_size, 1)
                print(f"[inputs] reading {path} for its digest: {share:.0%}", flush=True)
    return digest.hexdigest()


def _load(cache: Path) -> dict[str, object]:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _save(cache: Path, known: Mapping[str, object]) -> None:
    with replacing(cache) as unfinished:
        unfinished.write_text(json.dumps(known), encoding="utf-8")
