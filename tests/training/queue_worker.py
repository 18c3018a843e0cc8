"""Run by test_work_queue.py under torchrun on two ranks: rank 1 sticks in its first part until all else is done.

queue_worker.py FOLDER {train,evaluate}
"""

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.config import Architecture, Model, load_config
from fipo.data.schema import Problem, content_id
from fipo.distributed.bootstrap import World
from fipo.evaluation.parts import Parts
from fipo.models import load_tokenizer
from fipo.models.stops import Stops
from fipo.outcome import Grade
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.parts import cut
from fipo.training.evaluate import _evaluate
from fipo.training.rl.sampling import generate_and_score
from fipo.training.rl.timing import Timer

PARTS, PROMPTS = 6, 12
TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=tuple(map(str, range(PROMPTS))))))


class Slow(RolloutEngine):
    """Its responses are the prompt's text; on rank 1 the first part takes as long as all others together."""

    def __init__(self, rank, folder):
        self.rank, self.folder, self.calls, self.answered = rank, folder, 0, 0

    def parts(self, prompts, sampling, ranks):
        return cut(range(len(prompts)), PARTS)

    def generate(self, prompts, sampling, progress=None, on_group=None):
        self.calls, self.answered = self.calls + 1, self.answered + len(prompts)
        if self.rank == 1:
            while len(list(self.folder.iterdir())) < PARTS - 1:
                time.sleep(0.01)
        groups = []
        for done, prompt in enumerate(prompts, start=1):
            tokens = np.array(TOKENIZER(prompt.text)["input_ids"], np.int32)
            rollout = Rollout(tokens, np.zeros(len(tokens), np.float32), FinishReason.STOP, 0)
            groups.append(RolloutGroup(prompt, (rollout,) * sampling.group_size))
            on_group(groups[-1])
            progress(done * sampling.group_size, len(prompts) * sampling.group_size)
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


class SaidIt:
    """Right is who says the answer, and nothing else means the same."""

    def grade(self, items):
        return [Grade(Outcome.CORRECT if said == answer else Outcome.WRONG, said) for _, said, answer, _ in items]

    def equivalent(self, grader, pairs):
        return [False for _ in pairs]


def main(folder, what):
    dist.init_process_group("gloo")
    world = World(dist.get_rank(), dist.get_world_size(), 0, torch.device("cpu"))
    for turn in ("first", "second"):  # each batch has a queue of its own
        here = folder / turn
        here.mkdir(exist_ok=True)
        everyone = world.gather({"train": sampled, "evaluate": evaluated}[what](world, here))
        if world.is_main:
            os.write(1, f"{json.dumps(everyone)}\n".encode())
    dist.destroy_process_group()


def sampled(world, folder):
    """What this rank did, and what all of them have."""
    prompts = [Prompt(str(index), str(index), (1,), "") for index in range(PROMPTS)]
    engine, scores, told = Slow(world.rank, folder), Scores(), []
    sampling = Sampling(group_size=1, max_response_tokens=1)
    groups = generate_and_score(
        prompts, engine, scores, sampling, world, Timer(), lambda done, responses: told.append(done)
    )
    numbers = [int(str(TOKENIZER.decode(group.rollouts[0].token_ids))) for group in groups]
    return {"calls": engine.calls, "begun": scores.begun, "told": told, "numbers": numbers}


def evaluated(world, folder):
    """How much was answered here, and what all of them have; then again, with what was kept."""
    config = load_config("demo")
    problems = [Problem(content_id(said), said, said if said in "369" else "no") for said in map(str, range(PROMPTS))]
    benchmark = next(iter(config.data.benchmarks))
    kept = folder.parent / f"kept-{folder.name}-{world.rank}"  # a disk of its own
    if world.is_main:
        pq.write_table(pa.Table.from_pylist(list(map(asdict, problems))), folder.parent / "problems.parquet")
    world.barrier()
    job: Any = SimpleNamespace(
        config=config, world=world, workspace=SimpleNamespace(directory=kept, fingerprint="f"), part=lambda *_: None
    )
    stops = Stops((TOKENIZER.eos_token_id,), None, TOKENIZER.eos_token_id)

    def run(engine):
        return _evaluate(
            job, engine, TOKENIZER, stops, folder.parent / "problems.parquet", benchmark, "trained", SaidIt()
        )

    engine = Slow(world.rank, folder)
    result = run(engine)
    here = len(Parts(kept / "parts", f"f/trained/{benchmark}").read())
    again = Slow(0, folder)
    assert run(again) == result
    right = [problem.responses[0].text for problem in result.problems if problem.correct]
    return {"kept": here, "problems": len(result.problems), "right": right, "again": again.answered}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
