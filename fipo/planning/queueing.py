"""A simulated rollout phase: prompts over engines, dealt out or from one queue, to their end or with some carried over.

`python -m fipo.planning.queueing` prints the table of docs/planning.md. Nothing is measured here: engines decode as
fast as the plan's roofline says, and lengths come from a distribution.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rates:
    """What an inference engine takes."""

    step_seconds: float
    """Of a decoding step: its weights are read once."""
    context_seconds: float
    """For each token of keys and values that a step reads."""
    slots: int
    """Responses that it decodes at once."""
    prefill_seconds: float
    """For each token that is computed again where a response goes on under new weights."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What one generation phase came to."""

    seconds: float
    idle: float
    """Share of the engines' time in which they have nothing to do."""
    empty: float
    """Share of the places for responses that stand empty, over that time."""
    stale: float
    """Share of the finished responses that more than one version of the weights has sampled."""


@dataclass
class _Response:
    prompt: int
    left: int
    """Tokens that it will still have."""
    context: int
    begun: int
    """The step in which it was begun."""


@dataclass
class _Engine:
    waiting: deque[_Response] = field(default_factory=deque)
    running: list[tuple[int, int, _Response]] = field(default_factory=list)
    """A heap: the decoding step in which each ends, and a number that decides between equals."""
    steps: int = 0
    context: int = 0
    busy: float = 0.0
    used: float = 0.0
    last: tuple[int, int, float] = (0, 0, 0.0)
    """Steps, responses and seconds of the newest stretch of decoding."""


class Fleet:
    """Engines that make step after step.

    Args:
        rates: of each engine.
        engines: how many.
        lengths: of the responses of each prompt, tokens; after the last prompt the first comes again.
        prompt_tokens: of each prompt.
        stealing: one queue for all engines, unless all prompts have room at once; else they are dealt out before they
            begin.
        max_staleness: steps for which a response may go on after its own; 0 waits for all.
    """

    def __init__(
        self,
        rates: Rates,
        engines: int,
        lengths: Sequence[Sequence[int]],
        *,
        prompt_tokens: int,
        stealing: bool,
        max_staleness: int = 0,
    ) -> None:
        self._rates, self._lengths, self._prompt_tokens = rates, lengths, prompt_tokens
        self._stealing, self._max_staleness = stealing, max_staleness
        self._engines = [_Engine() for _ in range(engines)]
        self._drawn, self._step, self._numbers = 0, 0, 0
        self._open: dict[int, int] = {}
        """Responses of a prompt that are not finished."""

    def generate(self, prompts: int) -> Phase:
        """One step, until so many prompts are answered."""
        self._step += 1
        queue: deque[int] = deque()
        fresh = prompts - (len(self._open) if not self._max_staleness else 0)
        if self._stealing and (self._max_staleness or not self._has_room_for(fresh)):
            # Where some may be left over there is always another prompt to begin.
            queue.extend(range(self._drawn, self._drawn + (fresh if not self._max_staleness else 4 * prompts)))
        else:
            for index in range(fresh):
                self._begin(self._engines[index % len(self._engines)], self._drawn + index)
            self._drawn += fresh
        clocks = [self._resume(engine) for engine in self._engines]
        for engine in self._engines:
            engine.busy = engine.used = 0.0
        events = [(clock, index) for index, clock in enumerate(clocks)]
        heapq.heapify(events)
        done, finished, stale, end = 0, 0, 0, max(clocks)
        while events:
            now, index = heapq.heappop(events)
            engine = self._engines[index]
            while engine.running and engine.running[0][0] == engine.steps:
                response = heapq.heappop(engine.running)[2]
                engine.context -= response.context + response.left
                finished, stale = finished + 1, stale + (response.begun < self._step)
                self._open[response.prompt] -= 1
                if not self._open[response.prompt]:
                    del self._open[response.prompt]
                    done, end = done + 1, max(end, now)
            if done >= prompts and not self._must_finish():
                for later, other in events:
                    _rewind(self._engines[other], later - now)
                break
            self._fill(engine, queue)
            if engine.running:
                heapq.heappush(events, (now + self._advance(engine), index))
        seconds = end
        whole = seconds * len(self._engines)
        return Phase(
            seconds=seconds,
            idle=1.0 - min(1.0, sum(engine.busy for engine in self._engines) / whole),
            empty=1.0 - min(1.0, sum(engine.used for engine in self._engines) / (whole * self._rates.slots)),
            stale=stale / max(1, finished),
        )

    def _has_room_for(self, prompts: int) -> bool:
        return prompts * len(self._lengths[0]) <= len(self._engines) * self._rates.slots

    def _must_finish(self) -> bool:
        """Whether a response is as old as it may be: the step waits for it."""
        if not self._max_staleness:
            return bool(self._open)
        oldest = self._step - self._max_staleness
        left = ([*engine.waiting, *(one for *_, one in engine.running)] for engine in self._engines)
        return any(one.begun <= oldest for responses in left for one in responses)

    def _begin(self, engine: _Engine, prompt: int) -> None:
        lengths = self._lengths[prompt % len(self._lengths)]
        self._open[prompt] = len(lengths)
        engine.waiting.extend(_Response(prompt, length, self._prompt_tokens, self._step) for length in lengths)

    def _fill(self, engine: _Engine, queue: deque[int]) -> None:
        while len(engine.running) < self._rates.slots:
            if not engine.waiting:
                if not queue:
                    return
                self._begin(engine, queue.popleft())
                self._drawn += 1
            response = engine.waiting.popleft()
            self._numbers += 1
            heapq.heappush(engine.running, (engine.steps + response.left, self._numbers, response))
            engine.context += response.context

    def _advance(self, engine: _Engine) -> float:
        """Decode until the next response ends; the seconds that takes."""
        steps, rows = engine.running[0][0] - engine.steps, len(engine.running)
        read = steps * engine.context + rows * steps * (steps - 1) // 2
        seconds = steps * self._rates.step_seconds + read * self._rates.context_seconds
        engine.steps += steps
        engine.context += rows * steps
        engine.busy += seconds
        engine.used += seconds * rows
        engine.last = steps, rows, seconds
        return seconds

    def _resume(self, engine: _Engine) -> float:
        """What was left goes on under new weights: its context is computed again; the seconds that takes."""
        again = engine.context
        for end, _, response in engine.running:
            done = response.left - (end - engine.steps)
            response.left, response.context = response.left - done, response.context + done
        engine.running = [(engine.steps + one.left, number, one) for _, number, one in engine.running]
        heapq.heapify(engine.running)
        return again * self._rates.prefill_seconds


def _rewind(engine: _Engine, seconds: float) -> None:
    """The step ends so long before the stretch of decoding in which the engine is: the rest of it is not done."""
    steps, rows, whole = engine.last
    undone = math.ceil(steps * seconds / whole)
    engine.steps -= undone
    engine.context -= rows * undone
    engine.busy -= seconds
    engine.used -= seconds * rows


def log_normal_lengths(
    prompts: int, group: int, *, mean: float, sigma: float, longest: int, seed: int
) -> list[list[int]]:
    """Lengths of the responses of each prompt: half of the spread is between prompts, half within one.

    Args:
        prompts: how many.
        group: responses of each.
        mean: tokens, before the cut.
        sigma: of the logarithm.
        longest: tokens at which a response is cut.
        seed: the same gives the same.
    """
    random_ = random.Random(seed)
    center, part = math.log(mean) - sigma**2 / 2, sigma / math.sqrt(2)
    found = []
    for _ in range(prompts):
        level = random_.gauss(center, part)
        found.append([max(1, min(longest, round(math.exp(random_.gauss(level, part))))) for _ in range(group)])
    return found


PAPER_32B = Rates(
    step_seconds=65.5e9 / (4 * 3.35e12 * 0.6),
    context_seconds=262_144 / (4 * 3.35e12 * 0.6),
    slots=56,
    prefill_seconds=2 * 32.8e9 / (4 * 989e12 * 0.4),
)
"""Qwen2.5-32B in bf16 on four H100s by the plan's assumptions: half of their memory leaves 98 GiB of keys and values,
56 responses of mean length."""


def main(prompts: int = 1024, steps: int = 4) -> None:
    """Print the table: a step of paper-32b, 1,024 prompts of which half have a signal, on 32 GPUs (8 engines)."""
    lengths = log_normal_lengths(4 * prompts, 16, mean=7000, sigma=0.7, longest=20_480, seed=1)
    print("| prompts | carried over | generation | nothing to do | places empty | of two or more versions |")
    print("|---|---|---|---|---|---|")
    for stealing, staleness in ((False, 0), (True, 0), (True, 1), (True, 2)):
        fleet = Fleet(PAPER_32B, 8, lengths, prompt_tokens=256, stealing=stealing, max_staleness=staleness)
        found = [fleet.generate(prompts) for _ in range(steps)][1:]  # the first has nothing carried over to it
        mean = [sum(getattr(one, name) for one in found) / len(found) for name in ("seconds", "idle", "empty", "stale")]
        print(
            f"| {'one queue' if stealing else 'dealt out'} | {f'for {staleness} step(s)' if staleness else 'none'} "
            f"| {mean[0] / 60:,.0f} min | {mean[1]:.1%} | {mean[2]:.1%} | {mean[3]:.1%} |"
        )


if __name__ == "__main__":
    main()
