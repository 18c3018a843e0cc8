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
from fipo.distributed.bootstrap import StopRequested, World
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import OnResponses, RolloutEngine, Sampling
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
        """Whether nothing can be learned from it since nothing is right."""
        return not self.kept and not any(score.accuracy for group in self.sampled for score in group.scores)

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
    """Graded groups for all prompts, in their order, on every rank; each rank generates its share.

    Raises:
        StopRequested: on every rank, when any was asked to stop; nothing is returned then.
    """
    mine, groups, began = prompts[world.rank :: world.size], None, time.perf_counter()
    with suppress(StopRequested), world.interruptible() if engine.interruptible else nullcontext():
        with timer("generate"):
            generated = engine.generate(mine, sampling, progress=progress, on_group=scorer.begin)
        with timer("score"):
            groups = scorer.score(generated)
    taken = time.perf_counter() - began
    with timer("gather"):
        by_rank, seconds = zip(*world.gather((groups, taken)), strict=True)
    if None in by_rank:
        raise StopRequested
    timer.shared("generate", [seconds])
    return [by_rank[index % world.size][index // world.size] for index in range(len(prompts))]


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
