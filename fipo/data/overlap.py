"""Whether a problem is in a benchmark: shared runs of words, with the text around the problem left out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

# Han and kana are written without blanks: each character counts as a word. Operators tell 3 + 4 from 3 - 4.
_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+|[-+*/^=<>]")

MIN_FOR_TEMPLATE = 10
"""Fewer problems may begin alike by chance."""
TEMPLATE_SHARE = 0.9
"""A few odd rows do not hide a template."""
COMMON = 6
"""Words that so many problems share, the benchmark's among them, which are otherwise unlike, are no sign of a copy."""
ALIKE = 0.5
"""Two problems of which this share of words is the same, those in question left out, may be versions of one."""

Item = TypeVar("Item")
Run = tuple[str, ...]


def split_words(text: str) -> list[str]:
    """Words, numbers and operators in lower case, without punctuation, blanks, and LaTeX's backslashes and braces."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every run of `n` consecutive words."""
    return zip(*(words[start:] for start in range(n)))


@dataclass(frozen=True, slots=True)
class Template:
    """The words that the problems of one source begin and end with.

    Many data sets repeat an instruction in each prompt (DAPO-Math-17k: 40 words). Taken for part of the problem, it
    makes any two of them overlap.
    """

    prefix: list[str]
    suffix: list[str]

    @classmethod
    def common(cls, problems: Sequence[list[str]]) -> Template:
        """What nearly all of these problems share, given as words; empty when there are too few to tell."""
        if len(problems) < MIN_FOR_TEMPLATE:
            return cls([], [])
        least = TEMPLATE_SHARE * len(problems)
        prefix = _shared_start(problems, least)
        rests = [words[len(prefix) :][::-1] for words in problems if words[: len(prefix)] == prefix]
        return cls(prefix, _shared_start(rests, least)[::-1])

    def core(self, words: list[str]) -> slice:
        """Where the problem itself stands; all of it where it does not follow the template or consists of it."""
        start, stop = 0, len(words)
        if words[: len(self.prefix)] == self.prefix:
            start = len(self.prefix)
        if words[max(start, stop - len(self.suffix)) :] == self.suffix:
            stop -= len(self.suffix)
        return slice(start, stop) if start < stop else slice(0, len(words))

    def strip(self, words: list[str]) -> list[str]:
        """The problem itself."""
        return words[self.core(words)]


@dataclass(frozen=True, slots=True)
class Match:
    """What makes a problem one of a benchmark."""

    benchmark: str
    """Name of the benchmark."""
    problem: str
    """Its problem."""
    words: str
    """The words that both hold."""


Found = list[Match]
"""Of one problem: those that it overlaps; none is sound."""


class _Owner(NamedTuple):
    """A benchmark's problem."""

    benchmark: str
    problem: str


class BenchmarkIndex:
    """The benchmarks' problems, found again by what they share with another: `n` consecutive words, or all of them.

    Words that many problems share which are otherwise unlike each other are a manner of speaking ("where m and n are
    relatively prime positive integers. Find m+n" are 13) and tell nothing, unless a benchmark's problem has no others.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._runs: dict[Run, list[_Owner]] = {}
        self._short: dict[Run, _Owner] = {}
        self._sizes: dict[_Owner, int] = {}
        self._words: dict[_Owner, frozenset[str]] = {}
        self._contexts: dict[Run, list[frozenset[str]]] = {}
        """Of runs that a problem has shared: the other words of those that hold them, as far as they are unlike."""

    def add(self, words: list[str], template: Template, *, benchmark: str = "", problem: str = "") -> None:
        """Enter one problem of a benchmark whose problems follow `template`; name and problem are for `Match`."""
        core, owner = template.core(words), _Owner(benchmark, problem or " ".join(words))
        runs = set(_own_runs(words, core, self.n))
        if core.stop - core.start < self.n:
            for whole in (tuple(words), tuple(words[core])):
                self._short.setdefault(whole, owner)
        self._sizes[owner], self._words[owner] = len(runs), frozenset(words)
        for run in runs:
            self._runs.setdefault(run, []).append(owner)

    def judge(self, problems: Iterable[tuple[Item, list[str]]], template: Template) -> Iterator[tuple[Item, Found]]:
        """Each problem of a source with the benchmark problems that it overlaps.

        It does where it shares `n` consecutive words with one, or equals a shorter one. Those whose words may yet turn
        out to be a manner of speaking come last.
        """
        waiting: list[tuple[Item, list[Run]]] = []
        for item, words in problems:
            whole = self._short.get(tuple(words)) or self._short.get(tuple(template.strip(words)))
            runs = [run for run in _own_runs(words, template.core(words), self.n) if run in self._runs]
            self._see(runs, words)
            if whole:
                yield item, [Match(whole.benchmark, whole.problem, " ".join(words))]
            elif self._telling(runs):
                waiting.append((item, runs))
            else:
                yield item, []
        for item, runs in waiting:
            telling = self._telling(runs).items()
            yield item, [Match(owner.benchmark, owner.problem, _joined(own)) for owner, own in telling]

    def _telling(self, runs: list[Run]) -> dict[_Owner, list[Run]]:
        """By benchmark problem, the runs that say that it is one: those that are not common, or all that it has."""
        shared: dict[_Owner, list[Run]] = {}
        for run in dict.fromkeys(runs):
            for owner in self._runs[run]:
                shared.setdefault(owner, []).append(run)
        found = {}
        for owner, own in shared.items():
            is_whole = len(own) == self._sizes[owner]
            if telling := [run for run in own if is_whole or len(self._contexts[run]) < COMMON]:
                found[owner] = telling
        return found

    def _see(self, runs: Iterable[Run], words: list[str]) -> None:
        """A problem holds these runs; those that are like one seen before, with the run left out, are no other."""
        every = frozenset(words)
        for run in set(runs):
            if run not in self._contexts:
                self._contexts[run] = []
                for owner in self._runs[run]:
                    self._hold(run, self._words[owner])
            self._hold(run, every)

    def _hold(self, run: Run, words: frozenset[str]) -> None:
        known, context = self._contexts[run], words.difference(run)
        if len(known) < COMMON and not any(_jaccard(context, other) >= ALIKE for other in known):
            known.append(context)


def _own_runs(words: list[str], core: slice, n: int) -> Iterator[Run]:
    """The runs of `n` words that are the problem's, and not its template's.

    Of one that is shorter, those that hold all of it: where problems differ in a number only, the number with the words
    around it is what another may share.
    """
    if core.stop - core.start < n:
        return ngrams(words[max(0, core.stop - n) : core.start + n], n)
    return ngrams(words[core], n)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _joined(runs: list[Run]) -> str:
    """The words of the first run, and of those that go on from it."""
    words = list(runs[0])
    for run in runs[1:]:
        if run[:-1] != tuple(words[len(words) - len(run) + 1 :]):
            break
        words.append(run[-1])
    return " ".join(words)


def _shared_start(lists: Sequence[list[str]], least: float) -> list[str]:
    """The words that at least so many lists begin with."""
    start: list[str] = []
    while True:
        following = Counter(words[len(start)] for words in lists if len(words) > len(start))
        word, count = max(following.items(), key=lambda item: item[1], default=("", 0))
        if count < least:
            return start
        start.append(word)
        lists = [words for words in lists if words[: len(start)] == start]
