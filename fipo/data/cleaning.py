"""The sound problems of one set: read, validated, each once, not in a benchmark, and short enough."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from fipo.config import Data, Source
from fipo.data.demonstrations import Demonstrations
from fipo.data.files import batched
from fipo.data.manifest import Overlaps, Quarantine, Tally
from fipo.data.overlap import BenchmarkIndex, Template, split_words
from fipo.data.progress import OnRows
from fipo.data.rows import Reason, Row, RowError
from fipo.data.schema import ANY_PROBLEM, Problem, encode, render
from fipo.data.sources import read_rows
from fipo.data.validation import Refusal, to_problem
from fipo.errors import DataError
from fipo.models.tokens import token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1024
"""Problems tokenized at once, and read ahead to find a source's template."""

Found = Iterator[tuple[Row, Problem]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What every set is held to."""

    data: Data
    tokenizer: PreTrainedTokenizerBase
    refusal: Refusal
    quarantine: Quarantine
    overlaps: Overlaps
    progress: OnRows
    context: int
    """Tokens of prompt and response that the model takes."""
    demonstrations: Demonstrations | None = None
    """What grades them; None where none are learned from."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a problem came from."""

    source: Source
    tally: Tally
    template: Template

    def words(self, problem: Problem) -> list[str]:
        """What is compared to find near duplicates: the problem without its template, and its demonstration."""
        return self.template.strip(split_words(problem.prompt)) + split_words(problem.response)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sound problem."""

    origin: Origin
    problem: Problem
    prompt_tokens: int
    """Length of the prompt as the model sees it."""


class Cleaner:
    """Cleans the sources of one set; what one source has had, another may not repeat."""

    def __init__(self, name: str, rules: Rules, *, demonstrations: bool, benchmarks: BenchmarkIndex | None) -> None:
        self.name, self.rules = name, rules
        self.demonstrations, self.benchmarks = demonstrations, benchmarks
        self.tallies: list[Tally] = []
        self._answers: dict[bytes, bytes] = {}
        self._demonstrated: set[bytes] = set()
        self._graded = rules.demonstrations if demonstrations else None

    def clean(self, source: Source) -> Iterator[Candidate]:
        """The problems of one source that pass; what happened to the others is in `tallies` and the quarantine."""
        tally = Tally(self.name, source.name)
        self.tallies.append(tally)
        found = self._distinct(self._valid(source, tally), tally)
        head = list(islice(found, BATCH))
        template = Template.common([split_words(problem.prompt) for _, problem in head])
        found = self._uncontaminated(chain(head, found), template, tally)
        if source.is_made or not self._graded:  # what a generator makes is as wrong as it is meant to be
            yield from self._short_enough(found, Origin(source, tally, template))
            return
        found = self._grading(found, tally, self._graded)
        yield from self._short_enough(found, Origin(source, tally, template))
        for line in self._graded.close(tally, source):
            print(f"[prepare] {line}", flush=True)

    def _valid(self, source: Source, tally: Tally) -> Found:
        name = self.name if self.benchmarks is None else tally.source.rpartition("/")[2]
        for row in read_rows(source):
            if tally.read % 1000 == 0:
                self.rules.progress(f"{self.name}: reading {tally.source}", tally.read)
            tally.read += 1
            try:
                problem = to_problem(
                    row,
                    source,
                    name,
                    refusal=self.rules.refusal,
                    demonstration=self.demonstrations,
                )
            except RowError as error:
                self.rules.quarantine.add(tally, row, error)
            else:
                yield row, problem

    def _distinct(self, found: Found, tally: Tally) -> Found:
        """The first of equal problems; a warm-up set may hold several demonstrations of one problem."""
        for row, problem in found:
            key, answer = bytes.fromhex(problem.id), hashlib.sha256(problem.answer.encode()).digest()[:8]
            known = self._answers.setdefault(key, answer)
            if known != answer:
                detail = f"an earlier row with this prompt has another answer than {problem.answer!r}"
                self.rules.quarantine.add(tally, row, RowError(Reason.CONFLICT, detail))
                continue
            response = problem.response if self.demonstrations else ""
            demonstration = hashlib.sha256(key + response.encode()).digest()
            if demonstration in self._demonstrated:
                tally.remove(Reason.DUPLICATE)
                continue
            self._demonstrated.add(demonstration)
            yield row, problem

    def _uncontaminated(self, found: Found, template: Template, tally: Tally) -> Found:
        if self.benchmarks is None:
            yield from found
            return
        judged = self.benchmarks.judge(((one, split_words(one[1].prompt)) for one in found), template)
        for (row, problem), matches in judged:
            if matches:
                self.rules.overlaps.add(tally, row, problem.prompt, matches)
            else:
                yield row, problem

    def _grading(self, found: Found, tally: Tally, demonstrations: Demonstrations) -> Found:
        for batch in batched(found, BATCH):
            demonstrations.grade(tally, batch)
            yield from batch

    def _short_enough(self, found: Found, origin: Origin) -> Iterator[Candidate]:
        data, tally, context = self.rules.data, origin.tally, self.rules.context
        learned = context if self.demonstrations else math.inf
        for batch in batched(self._rendered(found, tally), BATCH):
            lengths = self._tokens([(problem, text) for _, problem, text in batch])
            for (row, problem, _), tokens in zip(batch, lengths, strict=True):
                if tokens is None:
                    detail = "the text holds what is not in the tokenizer's vocabulary"
                    self.rules.quarantine.add(tally, row, RowError(Reason.UNENCODABLE, detail))
                elif tokens[0] > min(data.max_prompt_tokens, context - 1):
                    tally.remove(Reason.TOO_MANY_TOKENS)
                elif tokens[1] > min(origin.source.max_demonstration_tokens or tokens[1], learned - tokens[0]):
                    tally.remove(Reason.LONG_DEMONSTRATION)
                else:
                    kept = problem if self.demonstrations else replace(problem, response="")
                    yield Candidate(origin, kept, tokens[0])

    def _rendered(self, found: Found, tally: Tally) -> Iterator[tuple[Row, Problem, str]]:
        """With the text that the model is given.

        Raises:
            DataError: the chat template takes no problem at all.
        """
        tokenizer, data = self.rules.tokenizer, self.rules.data
        for row, problem in found:
            try:
                yield row, problem, render(problem.prompt, tokenizer, data)
            except DataError as error:
                render(ANY_PROBLEM, tokenizer, data)  # or the template and the settings are at fault, and not the row
                self.rules.quarantine.add(tally, row, RowError(Reason.UNRENDERABLE, str(error)))

    def _tokens(self, rendered: list[tuple[Problem, str]]) -> list[tuple[int, int] | None]:
        """Lengths of each prompt as the model sees it and of the demonstration with its end, 0 where there is none.

        None where either cannot be encoded.
        """
        tokenizer, data = self.rules.tokenizer, self.rules.data
        demonstrations = [0] * len(rendered)
        try:
            if any(problem.response for problem, _ in rendered):
                encoded = token_ids([problem.response for problem, _ in rendered], tokenizer, special=False)
                demonstrations = [len(ids) + 1 for ids in encoded]
            prompts = encode([text for _, text in rendered], tokenizer, data)
            return list(zip(map(len, prompts), demonstrations, strict=True))
        except DataError:  # of the whole batch at once
            if len(rendered) == 1:
                return [None]
            return [lengths for one in rendered for lengths in self._tokens([one])]
