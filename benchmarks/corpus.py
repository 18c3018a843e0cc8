"""A seeded corpus of raw problems with planted faults: what `prepare` must find is known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

VOCABULARY = 20_000
PLANTED = {"broken": 0.005, "exact duplicate": 0.03, "near duplicate": 0.03, "overlaps a benchmark": 0.002}
"""Shares of the rows; the others are sound and distinct."""
BENCHMARK_PROBLEMS = 500
REPEATABLE = 10_000
"""At least so many of the last problems may be repeated."""
INSTRUCTION = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


class Corpus:
    """Problems of 20 to 120 words that follow Zipf's law, in DAPO-Math-17k's layout and instruction."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.words = [self._word() for _ in range(VOCABULARY)]
        weights = [1 / rank for rank in range(1, VOCABULARY + 1)]
        # Drawing from an urn filled by the weights is quicker than weighing each draw.
        self.urn = self.rng.choices(self.words, weights, k=200_000)

    def problem(self) -> str:
        """A new problem: words, some numbers and a formula."""
        rng = self.rng
        length = rng.randint(16, 112)
        words = rng.choices(self.urn, k=length)
        for _ in range(length // 8):
            words[rng.randrange(length)] = str(rng.randrange(1000))
        return " ".join([*words, rf"$\frac{{{rng.randrange(100)}}}{{x^{rng.randrange(9)}}} = {rng.randrange(100)}$"])

    def write(self, path: Path, rows: int, benchmark: list[str]) -> Counter[str]:
        """Write `rows` JSONL rows; returns how many of each fault were planted."""
        planted: Counter[str] = Counter()
        kinds, weights = list(PLANTED), list(PLANTED.values())
        earlier: list[tuple[str, str]] = []
        with path.open("w", encoding="utf-8") as file:
            for index in range(rows):
                faulty = index >= 1000 and self.rng.random() < sum(weights)
                kind = self.rng.choices(kinds, weights)[0] if faulty else "sound"
                planted[kind] += 1
                file.write(self._row(kind, earlier, benchmark) + "\n")
        return planted

    def _row(self, kind: str, earlier: list[tuple[str, str]], benchmark: list[str]) -> str:
        rng = self.rng
        text, answer = self.problem(), str(rng.randrange(1000))
        if kind == "sound":
            earlier.append((text, answer))
            if len(earlier) > 2 * REPEATABLE:
                del earlier[:REPEATABLE]
        elif kind == "overlaps a benchmark":
            text = f"{text} {rng.choice(benchmark)}"
        elif kind in ("exact duplicate", "near duplicate"):
            text, answer = rng.choice(earlier)
            text = f"  {text}" if kind == "exact duplicate" else f"{text} {rng.choice(self.words)}"
        row = json.dumps(
            {
                "data_source": "corpus",
                "prompt": [{"role": "user", "content": INSTRUCTION.format(text)}],
                "reward_model": {"ground_truth": answer, "style": "rule"},
            }
        )
        return row[: len(row) // 2] if kind == "broken" else row

    def _word(self) -> str:
        return "".join(
            self.rng.choice("bcdfghklmnprstvz") + self.rng.choice("aeiou") for _ in range(self.rng.randint(1, 4))
        )
