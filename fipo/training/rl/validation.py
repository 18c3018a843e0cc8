"""The validation problems, answered once each at some steps of training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fipo.batch import Prompt, RolloutGroup
from fipo.config import Config
from fipo.distributed.bootstrap import World
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.training.rl.metrics import validation_metrics
from fipo.training.rl.sampling import OnPart, generate_and_score
from fipo.training.rl.timing import Timer


class Validation:
    """Evaluates the policy on the validation problems."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        rollout: RolloutEngine,
        scorer: Scorer,
        config: Config,
        world: World,
        progress: OnPart | None = None,
    ) -> None:
        self._prompts, self._rollout, self._scorer, self._world = prompts, rollout, scorer, world
        self._progress = progress and partial(progress, "validation")
        self.newest: list[RolloutGroup] = []
        """What was answered last, in the problems' order."""
        self._every = config.train.evaluate_every
        # One response to each, and the same draws at every step, so that only the policy differs.
        self._sampling = Sampling(
            group_size=1,
            max_response_tokens=config.rollout.max_response_tokens,
            temperature=config.evaluation.temperature,
            top_p=config.evaluation.top_p,
            seed=config.run.seed,
        )

    def due(self, step: int, *, last: bool) -> bool:
        """Whether to evaluate after this step; never where nothing is held out, as of a few rows."""
        return bool(self._prompts) and (last or step % self._every == 0)

    def measure(self, timer: Timer) -> dict[str, float]:
        """Accuracy and lengths; collective."""
        with timer("evaluate"):
            self.newest = self._answered(self._prompts)
        return validation_metrics(self.newest)

    def ask(self, count: int) -> list[RolloutGroup]:
        """The first so many problems, answered as `measure` would; collective."""
        return self._answered(self._prompts[:count]) if self._prompts else []

    def _answered(self, prompts: Sequence[Prompt]) -> list[RolloutGroup]:
        return generate_and_score(
            prompts, self._rollout, self._scorer, self._sampling, self._world, Timer(), self._progress
        )
