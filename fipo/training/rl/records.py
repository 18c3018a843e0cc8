"""What a run keeps of single responses, for people to look at."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from fipo.batch import RolloutGroup, Sample, TokenTrace
from fipo.rewards.second_opinion import disagrees
from fipo.rollout.record import record_table, sample_rows, store_record
from fipo.rollout.texts import TokenTexts
from fipo.training.job import Job
from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.traces import Traces

DISAGREEMENTS = 16
"""Shown of each step."""
_STEP = re.compile(rb'\{"step": (\d+)')
"""How each row begins: one of influence is a megabyte, and nobody parses it for its step."""
ANSWERED = 4
"""Held-out problems whose answers are kept at each evaluation: the same ones, so that one sees the policy change."""


def influence_record(sample: Sample, trace: TokenTrace, tokens: TokenTexts) -> dict[str, Any]:
    """A learned response, token by token: what FIPO makes of the policy's movement.

    An environment's observations stand in it with a weight of 1.
    """
    own = sample.rollout.own
    shown = {"influence_weights": np.ones(len(own)), "future_kl": np.zeros(len(own)), "log_ratio": np.zeros(len(own))}
    for name, values in shown.items():
        values[own] = getattr(trace, name)
    return {
        "prompt": tokens.decode(list(sample.prompt.token_ids)),
        "tokens": tokens.split(sample.rollout.token_ids),
        **{name: values.tolist() for name, values in shown.items()},
        "advantage": sample.advantage,
    }


def most_telling(samples: Sequence[Sample], traces: Traces) -> Sample | None:
    """The longest response of the step's last update, in which the policy has moved farthest; None without any."""
    last = max((trace.update for trace in traces.values()), default=0)
    learned = (one for one in samples if one.key in traces and traces[one.key].update == last)
    return max(learned, key=lambda one: one.rollout.own_tokens, default=None)


def disagreements(step: int, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Verdicts that texts alone would not have given: the first few, each pair of answers once."""
    pairs = {(one.score.answer, one.prompt.answer): one for one in samples if disagrees(one)}
    return [
        {
            "step": step,
            "problem": one.prompt.text,
            "answer": one.prompt.shown_answer,
            "given": one.score.answer or "",
            "outcome": str(one.score.outcome),
        }
        for one in islice(pairs.values(), DISAGREEMENTS)
    ]


def owner(index: int, groups: int, ranks: int) -> int:
    """The rank that records a group: each has some that follow one another, rank 0 the first."""
    return index * ranks // groups


class Records:
    """The run's records of single responses: each rank writes a part of a step's, while the next step goes on."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase) -> None:
        self._job, self._tokenizer, self._tokens = job, tokenizer, TokenTexts(tokenizer)
        self._texts = TokenTexts(tokenizer)  # of the thread
        self.folder = job.workspace.directory / "records"
        self._newest: dict[str, int] = {}
        """The step of the last rows that this attempt has added to a file."""
        self._writer = ThreadPoolExecutor(1, "records")
        self._writing: Future[None] | None = None

    def keep(self, step: int, batch: RolloutBatch, traces: Traces, *, show: bool) -> None:
        """Put every response of the step into the object store, and one with its influence weights into the folder.

        Collective. What goes into the store may be under way afterwards, see `settle`.

        Args:
            step: of the loop.
            batch: what it sampled, with advantages.
            traces: what the loss saw in the responses that this rank learned from.
            show: add the first prompt's responses to MLflow's table, which has those of all such steps.
        """
        world, groups = self._job.world, batch.sampled
        owners = [owner(index, len(groups), world.size) for index in range(len(groups))]
        rank_of = {(one.prompt.id, one.prompt.draw): rank for one, rank in zip(groups, owners, strict=True)}
        parts: list[Traces] = [{} for _ in range(world.size)]
        for key, trace in traces.items():
            parts[rank_of[key[:2]]][key] = trace
        mine = {key: trace for part in world.exchange(parts) for key, trace in part.items()}
        told = most_telling(batch.samples, traces)
        telling = world.gather_to_main({told.key: traces[told.key]} if told else {})
        self.settle()  # at most one step waits to be written
        own = [group for group, rank in zip(groups, owners, strict=True) if rank == world.rank]
        self._writing = self._writer.submit(self._store, step, own, mine)
        if self._job.attempt:
            self._show(step, batch, {key: trace for part in telling for key, trace in part.items()}, show=show)

    def settle(self) -> None:
        """Wait until what this rank has of the steps before is in the store.

        Raises:
            StorageError: it could not be stored.
        """
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def _store(self, step: int, groups: Sequence[RolloutGroup], traces: Traces) -> None:
        """In a thread; the process does not end before it."""
        workspace, world = self._job.workspace, self._job.world
        table = record_table(step, groups, traces, self._texts)
        store_record(table, workspace.store, workspace.rollouts_prefix, step, part=world.rank, parts=world.size)

    def _show(self, step: int, batch: RolloutBatch, telling: Traces, *, show: bool) -> None:
        """On rank 0: what people look at first; `telling` has each rank's most telling response."""
        assert self._job.attempt
        self.folder.mkdir(exist_ok=True)
        if show:
            first = record_table(step, batch.sampled[:1], {}, self._tokens)
            self._add("samples.jsonl", step, sample_rows(first, self._tokenizer))
            self._job.attempt.tracker.table(self._rows("samples.jsonl"), "rollouts.json")
            self._add("disagreements.jsonl", step, disagreements(step, batch.samples))
            if others := self._rows("disagreements.jsonl"):
                self._job.attempt.tracker.table(others, "disagreements.json")
        if shown := most_telling(batch.samples, telling):
            influence = influence_record(shown, telling[shown.key], self._tokens)
            self._add("influence.jsonl", step, [{"step": step, **influence}])

    def answers(self, step: int, groups: Sequence[RolloutGroup]) -> None:
        """Keep what the first held-out problems are answered at this step; 0 is the warmed-up model."""
        if not self._job.attempt or not groups:
            return
        self.folder.mkdir(exist_ok=True)
        tables = (record_table(step, [group], {}, self._tokens) for group in groups[:ANSWERED])
        rows = [row for table in tables for row in sample_rows(table, self._tokenizer)]
        self._add("answers.jsonl", step, rows)

    def publish(self) -> None:
        """Publish the folder, with the journal of the metrics, as the output `records`."""
        self.settle()
        if self._job.attempt:
            shutil.copyfile(self._job.workspace.directory / "journal.jsonl", self.folder / "journal.jsonl")
            self._job.attempt.publish("records", self.folder)

    def _add(self, name: str, step: int, rows: list[dict[str, Any]]) -> None:
        """Append the rows of a step to a file.

        What a killed attempt, or a step that was returned from, has left there of this step and after it is sampled
        again, and dropped: before the first rows of an attempt, and where the step is not the next.
        """
        path = self.folder / name
        if path.exists() and step <= self._newest.get(name, step):
            os.truncate(path, end_of_rows(path, before=step))
        self._newest[name] = step
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text(encoding="utf-8").splitlines()]


def end_of_rows(path: Path, *, before: int) -> int:
    """Bytes of a file's whole rows that are of steps before this one; rows stand in the order of their steps."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            step = _STEP.match(line)
            if not step or int(step[1]) >= before or not line.endswith(b"\n"):
                break
            end += len(line)
    return end
