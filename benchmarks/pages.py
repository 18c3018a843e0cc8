"""Figures of benchmarks that stand on other pages than docs/benchmarks.md: all are those of docs/benchmarks.json.

    python -m benchmarks.pages        # writes them again, as `python -m benchmarks` does

A test holds every page against the file. A page that says a figure in a new place gets a line here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "benchmarks.json"
NUMBER = r"([\d,]*\d(?:\.\d+)?)"


@dataclass(frozen=True, slots=True)
class Line:
    """A place of a page."""

    page: str
    """From the root of the repository."""
    text: str
    """As it stands there, a `#` for each figure; the page has it once."""
    figures: tuple[str, ...]
    """Where each is in the file, `rl_step/ratio`; `a / 1e6` divides it."""

    @property
    def pattern(self) -> str:
        """The text, and any number in place of each `#`."""
        return NUMBER.join(re.escape(part) for part in self.text.split("#"))

    def values(self, results: Mapping[str, Any]) -> list[float]:
        """What the figures are."""
        return [_value(results, figure) for figure in self.figures]


LINES = (
    Line("README.md", "| an RL step | TRL's GRPOTrainer | # | # |", ("rl_step/ratio", "rl_step/memory_ratio")),
    Line(
        "README.md",
        "| `model.generate` | # and # | # |",
        ("rollout/ratio", "rollout/ratio_80m", "rollout/memory_ratio"),
    ),
    Line("README.md", "| packed updates | padded rows | # | |", ("packing/ratio",)),
    Line("README.md", "| the paper's listing | # | |", ("future_kl/ratio",)),
    Line(
        "README.md",
        "| full logits | # (# by CPU time) | # |",
        ("log_probs/ratio", "log_probs/cpu_ratio", "log_probs/memory_ratio"),
    ),
    Line("README.md", "| `datasets` and datasketch | # | # |", ("data/ratio", "data/memory_ratio")),
    Line(
        "README.md",
        "| math-verify in a process pool | #, # and # | |",
        ("rewards/ratio", "rewards/ratio_mix", "rewards/ratio_olympiad"),
    ),
    Line(
        "docs/algorithm.md",
        "| Future-KL, [8, 20480] | # ms | # ms, the paper's own listing | # times faster |",
        ("future_kl/seconds/ours / 1e-3", "future_kl/seconds/listing / 1e-3", "future_kl/ratio"),
    ),
    Line(
        "docs/algorithm.md",
        "| The same, packed rows | # ms | # ms | # times faster |",
        ("future_kl/seconds/ours_packed / 1e-3", "future_kl/seconds/listing / 1e-3", "future_kl/packed_ratio"),
    ),
    Line("docs/algorithm.md", "at 20,480 over at 1,024 | # |", ("future_kl/time_per_token_ratio",)),
    Line(
        "docs/algorithm.md",
        "vocabulary 151,936 | # GiB, # s (# s CPU) | # GiB, # s (# s CPU), log_softmax | "
        "# of the memory, # times faster (# by CPU) |",
        (
            *("log_probs/measured/ours/bytes / 1073741824", "log_probs/measured/ours/seconds"),
            *("log_probs/measured/ours/cpu_seconds", "log_probs/measured/peer/bytes / 1073741824"),
            *("log_probs/measured/peer/seconds", "log_probs/measured/peer/cpu_seconds", "log_probs/memory_ratio"),
            *("log_probs/ratio", "log_probs/cpu_ratio"),
        ),
    ),
    Line(
        "docs/algorithm.md",
        "if the peer leaves out the entropy | | | # times faster (# by CPU) |",
        ("log_probs/ratio_without_entropy", "log_probs/cpu_ratio_without_entropy"),
    ),
    Line(
        "docs/rollouts.md",
        "rollout)): # times the tokens per second",
        ("rollout/ratio",),
    ),
    Line("docs/rollouts.md", "4 million parameters and # times with 80 million", ("rollout/ratio_80m",)),
    Line(
        "docs/planning.md",
        "| # tokens/s | # tokens/s | # times | # MiB | # MiB | # |",
        (
            *("rl_step/measured/fipo/tokens_per_second", "rl_step/measured/trl/tokens_per_second", "rl_step/ratio"),
            *("rl_step/measured/fipo/peak_bytes / 1048576", "rl_step/measured/trl/peak_bytes / 1048576"),
            "rl_step/memory_ratio",
        ),
    ),
    Line("docs/training.md", "| padded, rows as they come | # | # |", ("packing/ratio", "packing/cpu_ratio")),
    Line(
        "docs/training.md",
        "| rows of similar length padded to each other | # | # |",
        ("packing/ratio_to_sorted", "packing/cpu_ratio_to_sorted"),
    ),
)


def wrong(line: Line, page: str, results: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each figure that the page does not have as the file has it, rounded as on the page."""
    found = list(re.finditer(line.pattern, page))
    if len(found) != 1:
        yield f"{line.page}: {line.text!r} is there {len(found)} times, with numbers in place of #"
        return
    for figure, value, shown in zip(line.figures, line.values(results), found[0].groups(), strict=True):
        if shown != (right := _rounded(value, shown)):
            yield f"{line.page}: {line.text!r}: {figure} is {right}; the page says {shown}"


def written(line: Line, page: str, results: Mapping[str, Any]) -> str:
    """The page with the figures of the file."""

    def replace(match: re.Match[str]) -> str:
        figures = [_rounded(value, shown) for value, shown in zip(line.values(results), match.groups(), strict=True)]
        parts = line.text.split("#")
        return parts[0] + "".join(figure + part for figure, part in zip(figures, parts[1:], strict=True))

    return re.sub(line.pattern, replace, page)


def write(results: Mapping[str, Any], root: Path = ROOT) -> None:
    """Every page with the figures of the file."""
    for line in LINES:
        path = root / line.page
        before = path.read_text(encoding="utf-8")
        if (after := written(line, before, results)) != before:
            path.write_text(after, encoding="utf-8")
            print(f"{line.page}: {line.text}")


def _value(results: Mapping[str, Any], figure: str) -> float:
    where, _, divisor = figure.partition(" / ")
    value: Any = reduce(lambda found, key: found[key], where.split("/"), results)
    return float(value) / float(divisor or 1)


def _rounded(value: float, like: str) -> str:
    """As many decimals as `like` has."""
    return f"{value:,.{len(like.partition('.')[2])}f}"


if __name__ == "__main__":
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    write(found)
    left = [sentence for line in LINES for sentence in wrong(line, (ROOT / line.page).read_text("utf-8"), found)]
    sys.exit("\n".join(left))
