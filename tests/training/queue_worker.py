"""Run by test_work_queue.py under torchrun on two ranks: rank 1 sticks in its first part until all else is done."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.distributed.bootstrap import World
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.parts import cut
from fipo.training.rl.sampling import generate_and_score
from fipo.training.rl.timing import Timer

PARTS, PROMPTS = 6, 12


class Slow(RolloutEngine):
    """Its responses are the prompt's own number; on rank 1 the first part takes as long as all others together."""

    def __init__(self, rank, folder):
        self.rank, self.folder, self.calls = rank, folder, 0

    def parts(self, prompts, sampling, ranks):
        return cut(range(len(prompts)), PARTS)

    def generate(self, prompts, sampling, progress=None, on_group=None):
        self.calls += 1
        if self.rank == 1:
            while len(list(self.folder.iterdir())) < PARTS - 1:
                time.sleep(0.01)
        groups = []
        for done, prompt in enumerate(prompts, start=1):
            tokens = np.array([int(prompt.id)], np.int32)
            groups.append(RolloutGroup(prompt, (Rollout(tokens, np.zeros(1, np.float32), FinishReason.STOP, 0),)))
            on_group(groups[-1])
            progress(done, len(prompts))
        (self.folder / f"{self.rank}-{self.calls}").touch()
        return groups

    def load_weights(self, source, version):
        """None."""

    def close(self):
        """Nothing."""


class Scores(Scorer):
    """All are right."""

    def __init__(self):
        self.begun = 0

    def begin(self, group):
        self.begun += 1

    def score(self, groups):
        return [group.graded((Score(Outcome.CORRECT, 1.0, 1.0),)) for group in groups]


def main(folder):
    dist.init_process_group("gloo")
    world = World(dist.get_rank(), dist.get_world_size(), 0, torch.device("cpu"))
    prompts = [Prompt(str(index), "", (1,), "") for index in range(PROMPTS)]
    for turn in ("first", "second"):  # each batch has a queue of its own
        here = folder / turn
        here.mkdir(exist_ok=True)
        everyone = world.gather(sampled(prompts, world, here))
        if world.is_main:
            os.write(1, f"{json.dumps(everyone)}\n".encode())
    dist.destroy_process_group()


def sampled(prompts, world, folder):
    """What this rank did, and what all of them have."""
    engine, scores, told = Slow(world.rank, folder), Scores(), []
    sampling = Sampling(group_size=1, max_response_tokens=1)
    groups = generate_and_score(
        prompts, engine, scores, sampling, world, Timer(), lambda done, responses: told.append(done)
    )
    numbers = [int(group.rollouts[0].token_ids[0]) for group in groups]
    return {"calls": engine.calls, "begun": scores.begun, "told": told, "numbers": numbers}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
