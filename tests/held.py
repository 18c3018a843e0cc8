"""fipo's command line, but training waits after a step until it is stopped or killed: `python -m tests.held train ...`.

The file that `HELD` names holds the line after which to wait, such as `step 1/4`. Rank 0 removes it as it begins to
wait, so that the next start does not.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

from fipo.training.job import Job, run_job

say = Job.say


def say_and_hold(job, line):
    file = Path(os.environ["HELD"])
    holds = job.world.is_main and file.exists() and line.startswith(file.read_text())
    if holds:
        file.unlink()  # first: who has read the line looks for the file
    say(job, line)
    while holds and not job.world._stop:
        time.sleep(0.01)


def main():
    """A worker where torchrun started this, else the command."""
    if "RANK" in os.environ:
        from fipo.training.rl.loop import train

        Job.say = say_and_hold  # type: ignore[method-assign]
        run_job("train", train)
        return
    from fipo import cli
    from fipo.run.step import STEPS

    STEPS["train"] = replace(STEPS["train"], job="tests.held")
    cli.main()


if __name__ == "__main__":
    main()
