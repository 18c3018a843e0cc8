"""fipo's command line, but training waits after a step until it is stopped or killed: `python -m tests.held train ...`.

The file that `HELD` names holds the line after which to wait, such as `step 1/4`, or `step 2, update 1` for between two
updates, where nothing is saved yet. Rank 0 removes it as it begins to
wait, so that the next start does not.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

from fipo.training.checkpointing import Checkpoints
from fipo.training.job import Job, run_job

say, save_between = Job.say, Checkpoints.between


def say_and_hold(job, line):
    file = Path(os.environ["HELD"])
    holds = job.world.is_main and file.exists() and line.startswith(file.read_text())
    if holds:
        file.unlink()  # first: who has read the line looks for the file
    say(job, line)
    while holds and not job.world._stop:
        time.sleep(0.01)


def between(checkpoints, state, extra):
    say_and_hold(checkpoints._job, f"step {state.step + 1}, update {state.updates} is done")
    save_between(checkpoints, state, extra)


def main():
    """A worker where torchrun started this, else the command."""
    if "RANK" in os.environ:
        from fipo.training.rl.loop import train

        Job.say = say_and_hold  # type: ignore[method-assign]
        Checkpoints.between = between  # type: ignore[method-assign]
        run_job("train", train)
        return
    from fipo import cli
    from fipo.run.step import STEPS

    STEPS["train"] = replace(STEPS["train"], job="tests.held")
    cli.main()


if __name__ == "__main__":
    main()
