"""Near duplicates in a set of any size: candidates by MinHash, each verified by its exact Jaccard index.

Every problem is a set of shingles (runs of 5 words), summarised by 128 MinHash values in bands: two problems that agree
in one whole band are candidates. Only the bands' hashes are held in memory, 8 bytes each; a candidate's words are asked
for again to verify it, so a problem is removed only if a kept one truly overlaps it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from fipo.data.overlap import ngrams

SHINGLE_WORDS = 5
PERMUTATIONS = 128
BATCH = 4096
"""Problems summarised at once."""
RECALL = 0.99
"""A pair at the threshold becomes a candidate at least this likely."""
MAX_COMPARISONS = 32
"""Kept problems of one bucket that a further one is compared with: templated sets would take quadratic time."""

Shingles = frozenset[tuple[str, ...]]


def shingles(words: Sequence[str]) -> Shingles:
    """Runs of `SHINGLE_WORDS` words; a shorter text is one shingle."""
    return frozenset(ngrams(words, SHINGLE_WORDS)) or frozenset({tuple(words)})


def jaccard(left: Shingles, right: Shingles) -> float:
    """Size of the intersection over size of the union."""
    common = len(left & right)
    return common / (len(left) + len(right) - common)


def band_rows(threshold: float) -> int:
    """Values in one band: as many as still find a pair at the threshold with probability `RECALL`."""
    for rows in (64, 32, 16, 8, 4, 2):
        if 1.0 - (1.0 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


class NearDuplicates:
    """Collects problems in order, then says which of them repeat an earlier one."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._rows = band_rows(threshold)
        # Odd factors: bands that differ in one value have different hashes.
        factors = np.random.default_rng(0).integers(0, 2**63, self._rows, dtype=np.uint64)
        self._factors = factors * np.uint64(2) + np.uint64(1)
        self._pending: list[tuple[list[str], int]] = []
        self._bands: list[NDArray[np.uint64]] = []
        self._keys = array("Q")

    def add(self, key: int, words: Sequence[str], answer: str) -> None:
        """Add one problem, given as words; `key` names it, keys ascend."""
        self._keys.append(key)
        tokens = [" ".join(shingle) for shingle in shingles(words)]
        self._pending.append((tokens, int.from_bytes(hashlib.sha256(answer.encode()).digest()[:8])))
        if len(self._pending) == BATCH:
            self._flush()

    def find(self, words_of: Callable[[int], Sequence[str]]) -> set[int]:
        """Keys of the problems that overlap a kept earlier one by the threshold and have the same answer.

        Nearly the same words with another answer is another problem: one number differs.

        Args:
            words_of: gives the words of the problem with a key again, as they were added.
        """
        self._flush()
        shingles_of = lru_cache(maxsize=1000)(lambda index: shingles(words_of(self._keys[index])))
        kept: defaultdict[int, list[int]] = defaultdict(list)
        repeats: set[int] = set()
        for index, buckets in self._shared_buckets():
            others = {other for bucket in buckets for other in kept[bucket]}
            if any(jaccard(shingles_of(index), shingles_of(other)) >= self.threshold for other in others):
                repeats.add(self._keys[index])
                continue
            for bucket in buckets:
                if len(kept[bucket]) < MAX_COMPARISONS:
                    kept[bucket].append(index)
        return repeats

    def _flush(self) -> None:
        if self._pending:
            tokens, answers = zip(*self._pending, strict=True)
            matrix = RMinHash.digest_matrix_from_token_sets(tokens, PERMUTATIONS, 0)
            values = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(tokens), -1, self._rows)
            # With the answer in its hash a band agrees only with bands of the same answer.
            bands = (values * self._factors).sum(axis=2, dtype=np.uint64) + np.array(answers, dtype=np.uint64)[:, None]
            self._bands.append(bands)
            self._pending.clear()

    def _shared_buckets(self) -> Iterator[tuple[int, list[int]]]:
        """Each problem that agrees with another in some band, in order, with the numbers of its shared buckets."""
        if self._bands:
            bands = np.concatenate(self._bands)
            self._bands.clear()
            buckets = _buckets(bands)
            for index in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
                yield index, [bucket for bucket in buckets[index].tolist() if bucket >= 0]


def _buckets(bands: NDArray[np.uint64]) -> NDArray[np.int32]:
    """[problems, bands]: the same number for equal hashes of one band, -1 where no other problem has the same."""
    buckets = np.full(bands.shape, -1, dtype=np.int32)
    used = 0
    for band, hashes in enumerate(bands.T):
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        group = np.concatenate(([0], np.cumsum(ordered[1:] != ordered[:-1])))
        shared = np.bincount(group)[group] > 1
        buckets[order[shared], band] = group[shared] + used
        used += int(group[-1]) + 1
    return buckets
