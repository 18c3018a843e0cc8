"""Filling a rollout batch: the prompt stream, the learning signal, how many prompts to draw."""

from typing import Any

import numpy as np
import pytest
import torch

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.config import load_config
from fipo.distributed.bootstrap import World
from fipo.errors import StopRequested
from fipo.rollout.engine import RolloutEngine
from fipo.training.rl.advantages import compared
from fipo.training.rl.sampling import PromptStream, collect, has_signal
from fipo.training.rl.timing import Timer

PROMPTS = [Prompt(str(index), f"p{index}", (1, 2), "1") for index in range(5)]


def group(prompt, *scores):
    rollout = Rollout(np.array([3, 4], np.int32), np.zeros(2, np.float32), FinishReason.STOP, 0)
    return RolloutGroup(prompt, (rollout,) * len(scores), scores)


CORRECT, WRONG = Score(Outcome.CORRECT, 1.0, 1.0), Score(Outcome.WRONG, 0.0, 0.0)
LONG, TIMEOUT = Score(Outcome.WRONG, 0.0, -0.5), Score(Outcome.TIMEOUT, 0.0, 0.0)


def test_each_epoch_is_a_permutation_of_its_own():
    taken = [prompt.id for prompt in PromptStream(PROMPTS, seed=1).take(10)]
    assert sorted(taken[:5]) == sorted(taken[5:]) == list("01234")
    assert taken[:5] != taken[5:]


def test_the_position_is_all_there_is_to_save():
    whole = [prompt.id for prompt in PromptStream(PROMPTS, seed=1).take(12)]
    stream = PromptStream(PROMPTS, seed=1)
    stream.take(7)
    assert [prompt.id for prompt in PromptStream(PROMPTS, seed=1, position=stream.position).take(5)] == whole[7:]


@pytest.mark.parametrize(
    ("scores", "signal"),
    [
        ((CORRECT, WRONG), True),
        ((CORRECT, CORRECT), False),
        ((WRONG, LONG), False),  # a length penalty alone is no signal
        ((CORRECT, TIMEOUT), False),  # a timeout is no verdict
        ((CORRECT, WRONG, TIMEOUT), True),
    ],
)
def test_the_signal_is_a_spread_of_accuracy(scores, signal):
    assert has_signal(group(PROMPTS[0], *scores)) is signal


def test_a_timeout_is_compared_with_nobody():
    # By hand: mean 1/2, sample standard deviation sqrt(1/2) of the two that were judged.
    samples = compared(group(PROMPTS[0], CORRECT, TIMEOUT, WRONG)).samples
    assert [sample.advantage for sample in samples] == [pytest.approx(0.5**0.5), None, pytest.approx(-(0.5**0.5))]


class OneRank(World):
    def __init__(self):
        super().__init__(rank=0, size=1, local_rank=0, device=torch.device("cpu"))

    def gather(self, item):
        return [item]


class EngineAndScorer(RolloutEngine):
    """Every third prompt teaches; counts what was asked."""

    def __init__(self, teaches):
        self.teaches, self.asked, self.seeds = teaches, [], []

    def generate(self, prompts, sampling, progress=None, on_group=None):
        self.asked.append(len(prompts))
        self.seeds.append(sampling.seed)
        return [group(prompt) for prompt in prompts]

    def load_weights(self, source, version):
        pass

    def close(self):
        pass

    def begin(self, group):
        pass

    def score(self, groups):
        return [group(one.prompt, CORRECT, WRONG if self.teaches(int(one.prompt.id)) else CORRECT) for one in groups]


def filled(teaches, **settings):
    config = load_config("demo", [f"train.{name}={value}" for name, value in settings.items()])
    parts: Any = EngineAndScorer(teaches)
    prompts = [Prompt(str(index), "p", (1,), "1") for index in range(1000)]
    return collect(PromptStream(prompts, seed=0), parts, parts, config, OneRank(), 1, Timer()), parts


def test_drawing_goes_on_until_the_batch_is_full():
    batch, parts = filled(lambda index: index % 2 == 0, prompts_per_step=16, mini_batch_prompts=4)
    assert len(batch.groups) == 16
    assert all(has_signal(one) for one in batch.groups)
    assert batch.rounds == len(parts.asked) > 1
    assert sum(parts.asked) == len(batch.sampled)
    assert parts.asked[0] == 16
    assert all(asked <= 16 for asked in parts.asked)


def test_each_step_of_each_run_samples_with_a_seed_of_its_own():
    seeds = set()
    for seed in (0, 1, 2):
        config = load_config("demo", [f"run.seed={seed}"])
        for step in range(1, 501):
            parts: Any = EngineAndScorer(lambda index: True)
            collect(PromptStream(PROMPTS, seed=seed), parts, parts, config, OneRank(), step, Timer())
            seeds.update(parts.seeds)
    assert len(seeds) == 3 * 500


def test_drawing_ends_after_the_given_rounds():
    batch, parts = filled(lambda index: False, prompts_per_step=8, mini_batch_prompts=4, max_generation_rounds=3)
    assert (batch.groups, batch.rounds, parts.asked) == ([], 3, [8, 8, 8])


def test_without_dynamic_sampling_one_round_is_enough():
    batch, parts = filled(lambda index: False, prompts_per_step=8, mini_batch_prompts=4, dynamic_sampling="false")
    assert (len(batch.groups), parts.asked) == (8, [8])


def test_each_draw_of_a_prompt_in_a_step_is_told_from_the_others():
    parts: Any = EngineAndScorer(lambda index: False)
    config = load_config(
        "demo", ["train.prompts_per_step=4", "train.mini_batch_prompts=2", "train.max_generation_rounds=3"]
    )
    stream = PromptStream(PROMPTS, seed=0)
    for _ in range(2):
        batch = collect(stream, parts, parts, config, OneRank(), 1, Timer())
        drawn = [(one.prompt.id, one.prompt.draw) for one in batch.sampled]
        # Twelve of five prompts, whatever their order: each draw counts those before it in the step, from 0.
        assert all(drawn[:position].count((id, draw - 1)) == 1 for position, (id, draw) in enumerate(drawn) if draw)
        assert len(set(drawn)) == 12
        assert {id for id, draw in drawn if draw == 0} == set("01234")


def test_a_stop_request_ends_generation_at_once_and_takes_nothing():
    class AskedToStop(EngineAndScorer):
        def generate(self, prompts, sampling, progress=None, on_group=None):
            world.request_stop()
            raise AssertionError("generation went on")

    world = OneRank()
    parts: Any = AskedToStop(lambda index: True)
    with pytest.raises(StopRequested):
        collect(PromptStream(PROMPTS, seed=0), parts, parts, load_config("demo"), world, 1, Timer())


def test_a_stop_request_between_generations_waits_for_the_next():
    world = OneRank()
    world.request_stop()
    with pytest.raises(StopRequested), world.interruptible():
        raise AssertionError("the block was entered")
