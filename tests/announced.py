"""`fipo.training.rl` that says where it is, so that tests can strike there: `python -m tests.announced --config FILE`.

At each point it prints `@ POINT NUMBER RANK PID` and waits a moment before it goes on; nothing else is different.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable

from fipo.distributed import checkpoints
from fipo.distributed.engine import TrainingEngine
from fipo.training.job import run_job
from fipo.training.rl import sampling
from fipo.training.rl.loop import train

PAUSE_SECONDS = 0.05
POINTS = ("generate", "update", "save", "hash", "commit", "end of save")
"""Before responses are sampled, an optimizer step, a shard is written, hashed, the commit is made; and after it."""

passed: Counter[str] = Counter()
struck: tuple[str, int, Callable[[], None]] | None = None
"""A point, the number of its passing, and what a thread of this process does from then on."""


def say(point):
    passed[point] += 1
    # At once, with its line break: the ranks write into one pipe.
    os.write(1, f"@ {point} {passed[point]} {os.environ['RANK']} {os.getpid()}\n".encode())
    if struck and struck[:2] == (point, passed[point]):
        threading.Thread(target=struck[2], daemon=True).start()
    time.sleep(PAUSE_SECONDS)


def announced(point, function, after=""):
    def wrapped(*arguments, **options):
        say(point)
        result = function(*arguments, **options)
        if after:
            say(after)
        return result

    return wrapped


def main():
    """Announce, and train."""
    sampling.generate_and_score = announced("generate", sampling.generate_and_score)
    TrainingEngine.step = announced("update", TrainingEngine.step)  # type: ignore[method-assign]
    checkpoints.save_file = announced("save", checkpoints.save_file)  # type: ignore[attr-defined]
    checkpoints._flush_and_hash = announced("hash", checkpoints._flush_and_hash)
    checkpoints._write_commit = announced("commit", checkpoints._write_commit, after="end of save")
    run_job("train", train)


if __name__ == "__main__":
    main()
