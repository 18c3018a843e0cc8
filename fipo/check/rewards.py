"""Graders and reward functions: can they be imported, and what do they say of a right answer to the first row?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from fipo.batch import Prompt
from fipo.check.look import Look, Skipped
from fipo.data.schema import Problem
from fipo.environments.host import Host
from fipo.environments.notice import notice
from fipo.errors import ConfigError, DataError, RewardError, RolloutError
from fipo.findings import Finding, excerpt
from fipo.rewards.functions import accuracy, find, partial
from fipo.rewards.sandbox.client import Limits

ROWS = 8
"""One that an environment cannot begin with may be the row's fault; so many are not."""

SHOWN_CHARACTERS = 120
"""Of a response."""
SLOW_SECONDS = 0.5

BUILTIN = {"accuracy": accuracy, "partial": partial, "overlong": accuracy}
"""Of which only the names count here."""


def graders(look: Look) -> Iterator[Finding]:
    """Whether graders and environments can be imported, and what holds in the programs that they run."""
    said = notice(look.config)
    sources = look.config.data.sources.values()
    names = dict.fromkeys([source.grader for source in sources] + [one.environment for one in sources])
    yield Finding("graders", "ok", f"{', '.join(filter(None, names))}{f'; {said}' if said else ''}")


def environments(look: Look) -> Iterator[Finding]:
    """Whether each source's environment begins a conversation on the first of its sound rows.

    Raises:
        ConfigError: it takes none of them.
    """
    with closing(Host(1, Limits())) as host:
        for setting, source in look.sources.items():
            problems = look.sound.get(setting, [])[:ROWS] if source.environment else []
            refused = [fault for problem in problems if (fault := _refused(problem, host))]
            if problems and len(refused) == len(problems):
                raise ConfigError(
                    f"{setting}.environment: {source.environment} must take a row of {source.name}; "
                    f"of the first {len(problems)} sound ones it takes none: {refused[0]}"
                )
            if problems:
                yield Finding(f"{setting}.environment", "ok", f"{source.environment} begins with the first row")


def _refused(problem: Problem, host: Host) -> str:
    """Why no conversation about it begins; empty where one does."""
    asked = Prompt(
        problem.id, problem.prompt, (), problem.answer, columns=problem.columns, environment=problem.environment
    )
    try:
        host.begin(asked).result()
    except RolloutError as error:
        return str(error)
    return ""


def functions(look: Look) -> Iterator[Finding]:
    """Whether each reward function can be imported."""
    weights = look.config.reward.functions
    for name in weights:
        find(name, BUILTIN)
    terms = " + ".join(f"{weight:g} * {name}" for name, weight in weights.items())
    yield Finding("reward functions", "ok", f"the reward is {terms}")


def one_reward(look: Look) -> Iterator[Finding]:
    """What every reward function says of the reference answer, given as a response to the first row."""
    import numpy as np

    from fipo.batch import FinishReason, Rollout, RolloutGroup
    from fipo.data.schema import tokenize
    from fipo.models.tokens import token_ids
    from fipo.rewards.scorer import Scorer

    config, problem = look.config, look.answered
    text = problem.response or rf"\boxed{{{problem.answer}}}"
    try:
        prompt = tokenize(problem, look.tokenizer, config.data)
        [ids] = token_ids([text], look.tokenizer, special=False)
    except DataError as error:
        raise Skipped(str(error)) from error
    answer = np.asarray([*ids, look.stops.ids[0]], np.int32)
    rollout = Rollout(answer, np.zeros(len(answer), np.float32), FinishReason.STOP, 0)
    limit = config.rollout.max_response_tokens
    with Scorer(config.reward, max_response_tokens=limit, tokenizer=look.tokenizer) as scorer:
        began = time.monotonic()
        [group] = scorer.score([RolloutGroup(prompt, (rollout,))])
        if time.monotonic() - began > SLOW_SECONDS:  # or it was a grader's process that started
            began = time.monotonic()
            scorer.score([RolloutGroup(prompt, (rollout,))])
        seconds = time.monotonic() - began
    [score] = group.scores
    if not score.components:
        raise RewardError(f"grader {problem.grader} has no verdict on the answer to the first row: {score.explanation}")
    parts = ", ".join(f"{name} {value:g}" for name, value in score.components.items())
    said = f"{excerpt(text, SHOWN_CHARACTERS)!r} is {score.outcome}: {parts}; the reward is {score.reward:g}"
    slow = seconds > SLOW_SECONDS
    if slow:
        responses = config.train.prompts_per_step * config.rollout.group_size
        said += f". It takes {seconds:.1f} s; the {responses:,} responses of a step {responses * seconds:,.0f} s in all"
    right = score.accuracy or problem.grader == "tests"
    yield Finding("one reward", "ok" if right and not slow else "warning", said)
