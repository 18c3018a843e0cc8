"""Files of this machine: known by their digest, and written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for its owner alone; one that is there stays as it is."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises where it is no folder


@contextmanager
def replacing(path: Path, *, durable: bool = False, private: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to: it takes the place of `path` when the block ends well, and is gone otherwise.

    Args:
        path: its folder is made if need be.
        durable: whether the new contents outlast a power failure once the block has ended.
        private: whether its owner alone may read it, and enter its folder if that is made here.
    """
    (private_folder if private else _folder)(path.parent)
    sweep(path.parent, f".{path.name}.")
    unfinished = path.with_name(f".{path.name}.{own_mark()}")
    try:
        if private:
            unfinished.touch(mode=0o600, exist_ok=False)
        yield unfinished
        if durable:
            sync(unfinished)
        unfinished.replace(path)
        if durable:
            sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def own_mark() -> str:
    """Names this process among all that share a folder, as part of an unfinished file's name."""
    return f"{_machine()}-{os.getpid()}"


def sweep(folder: Path, prefix: str) -> None:
    """Remove unfinished files whose name is `prefix` and the mark of a process of this machine that is dead."""
    marked = re.compile(rf"{re.escape(prefix)}{_machine()}-(\d+)\b.*")
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for name in names:
        found = marked.fullmatch(name)
        if found and not _is_alive(int(found[1])):
            (folder / name).unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Host and boot, for pods of one machine have names of their own."""
    return hashlib.sha256(f"{platform.node()} {boot_id()}".encode()).hexdigest()[:8]


def boot_id() -> str:
    """Tells machines of the same name apart; a machine that has started anew is another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]


def _is_alive(process: int) -> bool:
    """Not one that has ended, though its parent has not asked how: in a container the first process may never ask."""
    try:
        os.kill(process, 0)
        told = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:  # somebody else's
        return True
    return told.rpartition(")")[2].split()[0] not in ("Z", "X")


def _folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
