"""What is dear to make is made once for all workers of pytest-xdist: the first that needs it makes it."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder as `make(folder)` left it, this worker's own copy: what its tests change there nobody else sees.

    The copy has its files' times and modes. What was printed or stored with the first folder's path goes on pointing
    there, and that folder stays as it is.
    """
    own = tmp_path_factory.getbasetemp()
    first = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / f"made-{name}"
    done = first.with_name(f"{first.name}.done")
    with first.with_name(f"{first.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(first, ignore_errors=True)  # what a worker left that failed
            first.mkdir()
            make(first)
            done.touch()
    return Path(shutil.copytree(first, own / name, symlinks=True))
