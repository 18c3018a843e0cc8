"""Environments and an engine of the tests'."""

import time
from threading import Barrier
from typing import Any, ClassVar

import numpy as np

from fipo.batch import FinishReason, Rollout, RolloutGroup
from fipo.outcome import Grade, Outcome
from fipo.rollout.engine import RolloutEngine, check_prompts, response_limit


class Counter:
    """Answers `again` as often as the reference says, and remembers what it was told."""

    made: ClassVar[list[Any]] = []

    def __init__(self):
        self.heard = []
        Counter.made.append(self)

    def reset(self, prompt, reference, columns):
        self.row, self.left = (prompt, reference, columns), int(reference)

    def step(self, text):
        self.heard.append(text)
        self.left -= 1
        return "again" if self.left >= 0 else None

    def grade(self):
        return Grade(Outcome.CORRECT if self.left < 0 else Outcome.WRONG, explanation=f"{len(self.heard)} turns")


class Silent(Counter):
    """Leaves the verdict to the grader."""

    def grade(self):
        return None


class Broken(Counter):
    def step(self, text):
        raise KeyError("no luck")


class Odd(Counter):
    def step(self, text):
        return 7


class Fussy(Counter):
    def reset(self, prompt, reference, columns):
        raise ValueError("not this one")


class NoStep:
    def reset(self, prompt, reference, columns): ...

    def grade(self): ...


class Scripted(RolloutEngine):
    """Says what `say(prompt, index)` gives, token ids that end with a stop token or are cut at the limit."""

    stop_ids = frozenset([1])
    version = 5

    def __init__(self, say, context=1000):
        self.say, self.context, self.calls, self.closed = say, context, [], False

    def generate(self, prompts, sampling, progress=None, on_group=None):
        check_prompts(prompts, self.context)
        self.calls.append(([list(prompt.token_ids) for prompt in prompts], sampling.group_size))
        groups = []
        for prompt in prompts:
            rollouts = []
            for index in range(sampling.group_size):
                ids = self.say(prompt, index)[: response_limit(prompt, sampling, self.context)]
                reason = FinishReason.STOP if ids[-1] in self.stop_ids else FinishReason.LENGTH
                log_probs = np.array([-token / 8 for token in ids], np.float32)
                rollouts.append(Rollout(np.array(ids, np.int32), log_probs, reason, self.version))
            groups.append(RolloutGroup(prompt, tuple(rollouts)))
        for group in reversed(groups):  # in whatever order
            if on_group:
                on_group(group)
        return groups

    def load_weights(self, source, version):
        self.version = version

    def close(self):
        self.closed = True


class Loud(Counter):
    def step(self, text):
        return "0 1 2 3 4 Add modulo 5 :"


class Meeting(Counter):
    """Two of them must be in `step` at once."""

    barrier: ClassVar[Barrier] = Barrier(2)

    def step(self, text):
        Meeting.barrier.wait(300)


class Slow(Counter):
    """Tells how often it was asked."""

    asked: ClassVar[list[str]] = []

    def step(self, text):
        Slow.asked.append(text)
        time.sleep(0.5)
        return "again"
