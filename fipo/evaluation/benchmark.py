"""Sample a benchmark, grade the responses, keep them: what was kept is not sampled again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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

PROBLEMS_KEPT_TOGETHER = 64
"""Problems that are graded and kept as soon as so many are answered."""


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
    kept: Parts | None = None,
    kept_together: int = PROBLEMS_KEPT_TOGETHER,
    progress: OnResponses | None = None,
) -> BenchmarkResult:
    """Answer every prompt `sampling.group_size` times and grade the responses, in this process alone.

    A response depends on the prompt's id, its index and the seed alone, so neither sharing the prompts nor resuming
    changes a result.

    Args:
        name: of the benchmark.
        prompts: the problems, each id once.
        engine: holds the weights to evaluate.
        sampling: how to sample.
        tokenizer: turns responses into text.
        graders: tell right from wrong, each prompt by its own, and which wrong answers are one vote in cons@k.
        kept: where finished problems are kept; those found there are not sampled again.
        kept_together: problems that are graded and kept as soon as so many are answered.
        progress: called with the responses that are done, and all.

    Raises:
        DataError: there are no prompts, or an id occurs twice.
        RolloutError: the engine failed.
    """
    check_problems(name, prompts)
    done = kept.read() if kept else {}
    left = [prompt for prompt in prompts if prompt.id not in done]
    before, responses = (len(prompts) - len(left)) * sampling.group_size, len(prompts) * sampling.group_size
    done |= answer(
        left,
        engine.parts(left, sampling, 1),
        engine,
        sampling=sampling,
        tokenizer=tokenizer,
        graders=graders,
        kept=kept,
        kept_together=kept_together,
        progress=progress and (lambda done, _: progress(before + done, responses)),
    )
    return BenchmarkResult(name, tuple(done[prompt.id] for prompt in prompts))


def answer(
    prompts: Sequence[Prompt],
    parts: Iterable[Sequence[int]],
    engine: RolloutEngine,
    *,
    sampling: Sampling,
    tokenizer: PreTrainedTokenizerBase,
    graders: Graders,
    kept: Parts | None = None,
    kept_together: int = PROBLEMS_KEPT_TOGETHER,
    progress: OnResponses | None = None,
) -> dict[str, ProblemResult]:
    """The problems that this rank answers, graded, by id: see `evaluate`.

    Args:
        prompts: the problems that are left, the same on all ranks.
        parts: of them, by place, as this rank takes them: `RolloutEngine.generate_parts`.
    """
    found: dict[str, ProblemResult] = {}
    waiting: list[RolloutGroup] = []

    def keep() -> None:
        problems = _grade(waiting, tokenizer, graders)
        waiting.clear()
        found.update({problem.id: problem for problem in problems})
        if kept:
            kept.append(problems)

    def on_group(group: RolloutGroup) -> None:
        waiting.append(group)
        if len(waiting) == kept_together:
            keep()

    engine.generate_parts(prompts, parts, sampling, progress, on_group)
    if waiting:
        keep()
    return found


def check_problems(name: str, prompts: Sequence[Prompt]) -> None:
    """Refuse no problems at all, and two of one id.

    Raises:
        DataError: names the benchmark and what is wrong.
    """
    if not prompts:
        raise DataError(f"benchmark {name}: no problems to evaluate")
    repeated = [problem_id for problem_id, count in Counter(prompt.id for prompt in prompts).items() if count > 1]
    if repeated:
        raise DataError(
            f"benchmark {name}: problem ids must differ; {len(repeated)} occur again, such as {repeated[0]}"
        )


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
