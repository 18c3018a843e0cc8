"""Filling a rollout batch: generate, verify, draw again for prompts that teach nothing (DAPO's dynamic sampling)."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fipo.batch import Outcome, Prompt, RolloutGroup, Sample
from fipo.config import Config
from fipo.distributed.bootstrap import World
from fipo.distributed.work_queue import of_its_share, taken
from fipo.errors import StopRequested
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import OnGroup, OnResponses, RolloutEngine, Sampling
from fipo.training.rl.timing import Timer

OnPart = Callable[[str, int, int], None]
"""Called with what is being done, how many responses are done, and how many there will be."""


class PromptStream:
    """An endless sequence of prompts, a new permutation each epoch; `position` is all there is to save."""

    def __init__(self, prompts: Sequence[Prompt], *, seed: int, position: int = 0) -> None:
        self.prompts, self.seed, self.position = prompts, seed, position

    def take(self, count: int) -> list[Prompt]:
        """The next `count` prompts."""
        taken = []
        for position in range(self.position, self.position + count):
            epoch, index = divmod(position, len(self.prompts))
            taken.append(self.prompts[int(self._order(epoch)[index])])
        self.position += count
        return taken

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._permutation = (
                epoch,
                np.random.default_rng((self.seed, epoch)).permutation(len(self.prompts)),
            )
        return self._permutation


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """The groups of one step, the same on every rank."""

    sampled: list[RolloutGroup]
    """All that was generated for it, groups without signal too."""
    kept: list[int]
    """Which of them are trained on: at most `train.prompts_per_step`."""
    rounds: int
    """Rounds of generation ("number of sampled batches" in the paper)."""
    prompts_drawn: int
    """Position of the prompt stream after it: where the next batch starts."""

    @property
    def groups(self) -> list[RolloutGroup]:
        """What is trained on."""
        return [self.sampled[index] for index in self.kept]

    @property
    def samples(self) -> list[Sample]:
        """Every response."""
        return [sample for group in self.sampled for sample in group.samples]

    @property
    def without_signal(self) -> bool:
        """Whether nothing is learned from it since nothing is right: it has advantages, and all are 0."""
        learned = any(advantage for group in self.groups for advantage in group.advantages)
        return not learned and not any(score.accuracy for group in self.sampled for score in group.scores)

    @property
    def sampled_tokens(self) -> int:
        """Response tokens in all, those that the policy sampled."""
        return sum(rollout.own_tokens for group in self.sampled for rollout in group.rollouts)


def collect(
    stream: PromptStream,
    engine: RolloutEngine,
    scorer: Scorer,
    config: Config,
    world: World,
    step: int,
    timer: Timer,
    progress: OnPart | None = None,
) -> RolloutBatch:
    """Generate until `train.prompts_per_step` groups have a learning signal, or the rounds are used up.

    The signal is a spread of *accuracy*: length penalties alone would make phantom gradients.
    """
    settings = config.train
    sampling = Sampling(
        group_size=config.rollout.group_size,
        max_response_tokens=config.rollout.max_response_tokens,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        seed=config.run.seed * 1_000_003 + step,
    )
    sampled: list[RolloutGroup] = []
    kept: list[int] = []
    drawn: Counter[str] = Counter()
    rounds = 0
    while len(kept) < settings.prompts_per_step and rounds < settings.max_generation_rounds:
        prompts = stream.take(_draw_size(len(kept), len(sampled), settings.prompts_per_step))
        prompts = [replace(prompt, draw=_count(drawn, prompt.id)) for prompt in prompts]
        what = f"step {step}: sampling" + (f", round {rounds + 1}" if rounds else "")
        groups = generate_and_score(
            prompts, engine, scorer, sampling, world, timer, progress and partial(progress, what)
        )
        wanted = [has_signal(group) or not settings.dynamic_sampling for group in groups]
        kept += [index for index, keep in enumerate(wanted, start=len(sampled)) if keep]
        sampled += groups
        rounds += 1
    return RolloutBatch(sampled, kept[: settings.prompts_per_step], rounds, stream.position)


def generate_and_score(
    prompts: Sequence[Prompt],
    engine: RolloutEngine,
    scorer: Scorer,
    sampling: Sampling,
    world: World,
    timer: Timer,
    progress: OnResponses | None = None,
) -> list[RolloutGroup]:
    """Graded groups for all prompts, in their order, on every rank; ranks take parts of them from one queue.

    Raises:
        StopRequested: on every rank, when any was asked to stop; nothing is returned then.
    """
    began, mine = time.perf_counter(), None
    with suppress(StopRequested), world.interruptible() if engine.ranks_together == 1 else nullcontext():
        with timer("generate"):
            generated = _taken(prompts, engine, sampling, world, scorer.begin, progress)
        with timer("score"):
            mine = dict(zip(generated, scorer.score(list(generated.values())), strict=True))
    seconds = time.perf_counter() - began
    with timer("gather"):
        by_rank, each = zip(*world.gather((mine, seconds)), strict=True)
    if None in by_rank:
        raise StopRequested
    timer.shared("generate", [each])
    everyone = {place: group for groups in by_rank for place, group in groups.items()}
    return [everyone[place] for place in range(len(prompts))]


def _taken(
    prompts: Sequence[Prompt],
    engine: RolloutEngine,
    sampling: Sampling,
    world: World,
    on_group: OnGroup,
    progress: OnResponses | None,
) -> dict[int, RolloutGroup]:
    """What this rank generates, by place among the prompts."""
    parts = engine.parts(prompts, sampling, world.size)
    mine = (parts[number] for number in taken(world, len(parts), engine.ranks_together))
    told = progress and of_its_share(progress, len(prompts) * sampling.group_size, world)
    return engine.generate_parts(prompts, mine, sampling, told, on_group)


def has_signal(group: RolloutGroup) -> bool:
    """Whether the responses that were judged differ in accuracy."""
    return len({score.accuracy for score in group.scores if score.outcome is not Outcome.TIMEOUT}) > 1


def _count(drawn: Counter[str], prompt_id: str) -> int:
    """How often the prompt was drawn before; this draw is counted."""
    drawn[prompt_id] += 1
    return drawn[prompt_id] - 1


def _draw_size(kept: int, sampled: int, wanted: int) -> int:
    """As many prompts as the share that was kept so far says is needed, at most a whole batch."""
    return min(wanted, math.ceil((wanted - kept) * sampled / kept)) if kept else wanted
