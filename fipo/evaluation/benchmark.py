"""Sample a benchmark, grade the responses, keep them: `evaluate` does one rank's share and resumes where it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from fipo.batch import FinishReason, Prompt, RolloutGroup
from fipo.errors import DataError
from fipo.evaluation.parts import Parts
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.evaluation.votes import Ballot, count_votes
from fipo.outcome import Grade
from fipo.rollout.engine import OnResponses, RolloutEngine, Sampling

PROMPTS_PER_PART = 64
"""Problems that are generated and kept together."""


class Graders(Protocol):
    """Judge responses; `fipo.rewards.pool.GraderPool` does."""

    def grade(self, items: Sequence[tuple[str, str, str, str]]) -> Sequence[Grade]:
        """The grade of each (grader, response, reference answer, other columns), in order."""
        ...

    def equivalent(self, grader: str, pairs: Sequence[tuple[str, str]]) -> Sequence[bool]:
        """Whether the answers of two responses mean the same, for each pair, in order."""
        ...


def evaluate(
    name: str,
    prompts: Sequence[Prompt],
    engine: RolloutEngine,
    *,
    sampling: Sampling,
    tokenizer: PreTrainedTokenizerBase,
    graders: Graders,
    parts: Parts | None = None,
    prompts_per_part: int = PROMPTS_PER_PART,
    progress: OnResponses | None = None,
) -> BenchmarkResult:
    """Answer every prompt `sampling.group_size` times and grade the responses.

    A response depends on the prompt's id, its index and the seed alone, so neither sharding nor resuming changes a
    result: give each rank `prompts[rank::ranks]`, and `BenchmarkResult.merge` the shards.

    Args:
        name: of the benchmark.
        prompts: this rank's problems, each id once.
        engine: holds the weights to evaluate.
        sampling: how to sample.
        tokenizer: turns responses into text.
        graders: tell right from wrong, each prompt by its own, and which wrong answers are one vote in cons@k.
        parts: where finished problems are kept; those found there are not sampled again.
        prompts_per_part: problems that are generated and kept together.
        progress: called with the responses that are done, and all.

    Raises:
        DataError: there are no prompts, or an id occurs twice.
        RolloutError: the engine failed.
    """
    _check(name, prompts)
    done = parts.read() if parts else {}
    left = [prompt for prompt in prompts if prompt.id not in done]
    responses = len(prompts) * sampling.group_size
    for start in range(0, len(left), prompts_per_part):
        before = (len(prompts) - len(left) + start) * sampling.group_size
        groups = engine.generate(
            left[start : start + prompts_per_part], sampling, _shifted(progress, before, responses)
        )
        problems = _grade(groups, tokenizer, graders)
        done |= {problem.id: problem for problem in problems}
        if parts:
            parts.append(problems)
    return BenchmarkResult(name, tuple(done[prompt.id] for prompt in prompts))


def _check(name: str, prompts: Sequence[Prompt]) -> None:
    if not prompts:
        raise DataError(f"benchmark {name}: no problems to evaluate")
    repeated = [problem_id for problem_id, count in Counter(prompt.id for prompt in prompts).items() if count > 1]
    if repeated:
        raise DataError(
            f"benchmark {name}: problem ids must differ; {len(repeated)} occur again, such as {repeated[0]}"
        )


def _shifted(progress: OnResponses | None, before: int, responses: int) -> OnResponses | None:
    return progress and (lambda done, _: progress(before + done, responses))


def _grade(groups: Sequence[RolloutGroup], tokenizer: PreTrainedTokenizerBase, graders: Graders) -> list[ProblemResult]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    judged = iter(tokenizer.batch_decode([one.last_turn.tolist() for one in rollouts], skip_special_tokens=True))
    shown = iter(tokenizer.batch_decode([one.token_ids.tolist() for one in rollouts], skip_special_tokens=True))
    texts = [[next(judged) for _ in group.rollouts] for group in groups]
    prompts = [group.prompt for group in groups]
    items = [
        (group.prompt.grader, text, group.prompt.answer, group.prompt.columns)
        for group, said in zip(groups, texts)
        for text, rollout in zip(said, group.rollouts)
        if rollout.grade is None
    ]
    found = iter(graders.grade(items))
    grades = [[rollout.grade or next(found) for rollout in group.rollouts] for group in groups]
    ballots = [
        Ballot(said, [grade.answer for grade in own], [grade.outcome for grade in own])
        for said, own in zip(texts, grades)
    ]
    # All problems of a benchmark have one grader.
    votes = count_votes(ballots, partial(graders.equivalent, prompts[0].grader))
    return [
        ProblemResult(
            id=group.prompt.id,
            problem=group.prompt.text,
            answer=group.prompt.shown_answer,
            responses=tuple(
                GradedResponse(
                    text=next(shown),
                    answer=grade.answer,
                    outcome=grade.outcome,
                    tokens=rollout.own_tokens,
                    truncated=rollout.finish_reason is FinishReason.LENGTH,
                    vote=vote,
                    explanation=grade.explanation,
                )
                for rollout, grade, vote in zip(group.rollouts, own, counted, strict=True)
            ),
        )
        for group, own, counted in zip(groups, grades, votes, strict=True)
    ]
