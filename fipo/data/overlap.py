"""Whether a problem is in a benchmark: shared runs of words, with the text around the problem left out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Han and kana are written without blanks: each character counts as a word. Operators tell 3 + 4 from 3 - 4.
_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+|[-+*/^=<>]")

MIN_FOR_TEMPLATE = 10
"""Fewer problems may begin alike by chance."""
TEMPLATE_SHARE = 0.9
"""A few odd rows do not hide a template."""


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


class BenchmarkIndex:
    """The benchmarks' problems, found again by what they share with another: `n` consecutive words, or all of them."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._runs: set[tuple[str, ...]] = set()
        self._short: set[tuple[str, ...]] = set()

    def add(self, words: list[str], template: Template) -> None:
        """Enter one problem of a benchmark whose problems follow `template`."""
        core = template.core(words)
        self._runs.update(ngrams(words[core], self.n))
        if core.stop - core.start < self.n:
            self._short.update((tuple(words), tuple(words[core])))
            # Problems that differ in a number only: the number with the words around it is what another may share.
            self._runs.update(ngrams(words[max(0, core.stop - self.n) : core.start + self.n], self.n))

    def overlaps(self, words: list[str], template: Template) -> bool:
        """Whether a problem shares `n` consecutive words with a benchmark's, or equals a shorter one."""
        return (
            tuple(words) in self._short
            or tuple(template.strip(words)) in self._short
            or not self._runs.isdisjoint(ngrams(words, self.n))
        )


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
