"""`fipo.training.rl` whose losses are NaN for a while: `POISONED=5-8 python -m tests.poisoned --config FILE`.

The fifth to the eighth backward pass of this process, as if the data or the policy had gone wrong.
"""

import math
import os

from fipo.distributed.engine import TrainingEngine
from fipo.training.job import run_job
from fipo.training.rl.loop import train

if __name__ == "__main__":
    first, last = map(int, os.environ["POISONED"].split("-"))
    backward, count = TrainingEngine.backward, 0

    def poisoned(engine, loss):
        global count
        count += 1
        backward(engine, loss * math.nan if first <= count <= last else loss)

    TrainingEngine.backward = poisoned  # type: ignore[method-assign]
    run_job("train", train)
