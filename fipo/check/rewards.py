"""Graders and reward functions: can they be imported, and what do they say of a right answer to the first row?"""

from __future__ import annotations

from collections.abc import Iterator

from fipo.check.look import Look, Skipped
from fipo.errors import RewardError
from fipo.findings import Finding
from fipo.rewards.functions import accuracy, find, partial
from fipo.rewards.notice import grading_notice

BUILTIN = {"accuracy": accuracy, "partial": partial, "overlong": accuracy}
"""Of which only the names count here."""


def graders(look: Look) -> Iterator[Finding]:
    """Whether each source's grader can be imported, and what holds in the programs that graders run."""
    notice = grading_notice(look.config)
    names = dict.fromkeys(source.grader for source in look.config.data.sources.values())
    yield Finding("graders", "ok", f"{', '.join(names)}{f'; {notice}' if notice else ''}")


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
    from fipo.rewards.scorer import Scorer

    config, problem = look.config, look.answered
    text = problem.response or rf"\boxed{{{problem.answer}}}"
    try:
        prompt = tokenize(problem, look.tokenizer, config.data)
        ids = look.tokenizer(text, add_special_tokens=False)["input_ids"]
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise Skipped(f"the tokenizer has no tokens for {text[:100]!r}") from error
    token_ids = np.asarray([*ids, look.stops.ids[0]], np.int32)
    rollout = Rollout(token_ids, np.zeros(len(token_ids), np.float32), FinishReason.STOP, 0)
    limit = config.rollout.max_response_tokens
    with Scorer(config.reward, max_response_tokens=limit, tokenizer=look.tokenizer) as scorer:
        [group] = scorer.score([RolloutGroup(prompt, (rollout,))])
    [score] = group.scores
    if not score.components:
        raise RewardError(f"grader {problem.grader} has no verdict on the answer to the first row: {score.explanation}")
    parts = ", ".join(f"{name} {value:g}" for name, value in score.components.items())
    said = f"{text[:80]!r} is {score.outcome}: {parts}; the reward is {score.reward:g}"
    yield Finding("one reward", "ok" if score.accuracy or problem.grader == "tests" else "warning", said)
