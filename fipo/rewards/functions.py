"""Reward functions: found by name, evaluated with an error that says which one failed on what."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from numbers import Real

from fipo.batch import FinishReason, Prompt
from fipo.errors import ConfigError, RewardError
from fipo.findings import excerpt
from fipo.outcome import Outcome
from fipo.rewards.names import ENTRY_POINTS

SHOWN_CHARACTERS = 300
"""Of a response that a function fails on."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a reward function sees of one response."""

    prompt: Prompt
    text: str
    """Without special tokens; of several turns the last."""
    tokens: int
    """Length, the stop token and an environment's observations included: what counts towards the limit."""
    finish_reason: FinishReason
    outcome: Outcome
    """The grader's verdict, never `timeout`: responses without a verdict are not rewarded."""
    score: float | None = None
    """The share that is right, 0 to 1, where the grader knows one."""


RewardFunction = Callable[[Response], float]
"""Gives any finite number; it must not depend on anything but the response."""


def accuracy(response: Response) -> float:
    """1 for a correct final answer, else 0."""
    return float(response.outcome is Outcome.CORRECT)


def partial(response: Response) -> float:
    """The grader's score where it gives one, else `accuracy`."""
    return accuracy(response) if response.score is None else response.score


def find(name: str, builtin: Mapping[str, RewardFunction]) -> RewardFunction:
    """The reward function of that name: built in, an entry point, or `package.module:function`.

    Raises:
        ConfigError: there is none, or what is there cannot be called.
    """
    if name in builtin:
        return builtin[name]
    offered = entry_points(group=ENTRY_POINTS)
    try:
        if name in offered.names:
            function = offered[name].load()
        else:
            module, _, attribute = name.partition(":")
            function = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:  # its own code runs
        known = ", ".join(sorted({*builtin, *offered.names}))
        raise ConfigError(
            f"reward.functions: no reward function {name!r} ({type(error).__name__}: {error}); expected one of "
            f"{known}, or package.module:function"
        ) from error
    if not callable(function):
        raise ConfigError(f"reward.functions: {name!r} must be a function; found {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def evaluate(name: str, function: RewardFunction, response: Response) -> float:
    """What the function says of the response.

    Raises:
        RewardError: it raised, or returned something else than a finite number.
    """
    text = excerpt(response.text, SHOWN_CHARACTERS)
    where = f"reward function {name}, response to prompt {response.prompt.id} ({text!r})"
    try:
        value = function(response)
        value = value.item() if hasattr(value, "item") else value  # one number of numpy or torch
    except (Exception, SystemExit) as error:
        raise RewardError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(value, Real) or not math.isfinite(value):
        raise RewardError(f"{where}: must return a finite number; returned {value!r}")
    return float(value)
