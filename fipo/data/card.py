"""The data card: what is in the prepared sets and how they came about, for people, in Markdown with one figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from fipo.config import Data
from fipo.data.manifest import Manifest, Tally
from fipo.data.rows import Reason
from fipo.figures import AFTER, MUTED, PHASES, WARM, panels, styled, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, FIGURE = "data-card.md", "data-card.png"
EXAMPLE_CHARACTERS = 600

FATES = {"kept": AFTER, "removed": WARM, "set aside": PHASES[3]}

_ABOVE: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "handlelength": 0.9}


def write_card(
    folder: Path,
    data: Data,
    manifest: Manifest,
    lengths: Mapping[str, Counter[int]],
    overlaps: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write `data-card.md` and its figure into a prepared folder.

    Args:
        folder: holds the prepared files.
        data: the settings.
        manifest: of the same preparation.
        lengths: for each file of the manifest, how many prompts have how many tokens.
        overlaps: the first removed problems beside those of benchmarks, as `fipo.data.manifest.Overlaps` has them.
    """
    text = "\n".join(
        [
            "# Data card",
            "",
            f"{sum(tally.read for tally in manifest.sources):,} rows were read; the settings have the digest "
            f"`{manifest.config_digest[:12]}`. Numbers to compute with are in `manifest.json`, faulty rows in "
            "`quarantine.jsonl`.",
            "",
            f"![What became of the rows, and how long the prompts are]({FIGURE})",
            "",
            "## Files",
            "",
            "| file | problems | prompt tokens: median | 95 % | longest | SHA-256 |",
            "|---|--:|--:|--:|--:|---|",
            *(_file_row(name, manifest, lengths[name]) for name in manifest.files),
            "",
            "## Sources",
            "",
            "| set | source | read | kept | removed | set aside as faulty |",
            "|---|---|--:|--:|---|---|",
            *(_source_row(tally) for tally in manifest.sources),
            "",
            *_demonstrations(manifest),
            *_overlaps(overlaps, manifest),
            "## Rules",
            "",
            *(f"- {rule}" for rule in _rules(data)),
            "",
            "## Examples",
            "",
            *(line for name in manifest.files for line in _example(folder, name)),
        ]
    )
    (folder / NAME).write_text(text, encoding="utf-8")
    _draw(folder / FIGURE, manifest, lengths, data.max_prompt_tokens)


def quantile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least `share` of all are not above; 0 of none."""
    rest = share * counts.total()
    for value in sorted(counts):
        rest -= counts[value]
        if rest <= 0:
            return value
    return 0


def _file_row(name: str, manifest: Manifest, lengths: Counter[int]) -> str:
    file = manifest.files[name]
    tokens = " | ".join(f"{quantile(lengths, share):,}" for share in (0.5, 0.95, 1.0))
    return f"| {name} | {file.rows:,} | {tokens} | `{file.sha256[:12]}` |"


def _source_row(tally: Tally) -> str:
    return (
        f"| {tally.set} | {_cell(tally.source)} | {tally.read:,} | {tally.kept:,} | {_counts(tally.removed)} | "
        f"{_counts(tally.quarantined)} |"
    )


def _demonstrations(manifest: Manifest) -> list[str]:
    rows = [
        f"| {_cell(tally.source)} | {_counts(tally.demonstrations)} |"
        for tally in manifest.sources
        if tally.demonstrations
    ]
    head = ["## Demonstrations", "", "| source | what the grader says of them |", "|---|---|"]
    return [*head, *rows, ""] if rows else []


def _overlaps(first: Sequence[Mapping[str, Any]], manifest: Manifest) -> list[str]:
    """The problems that were removed for what they share with a benchmark's."""
    if not first:
        return []
    total = sum(tally.removed.get(Reason.CONTAMINATED, 0) for tally in manifest.sources)
    more = "all of them" if total <= len(first) else f"the first {len(first)} lines"
    head = "| set | source, line | benchmark | words that both hold |"
    return [
        "## Overlaps with benchmarks",
        "",
        f"{total:,} problems were removed, each listed beside what it overlaps in `overlaps.jsonl`; here {more}.",
        "",
        head,
        "|---|---|---|---|",
        *map(_overlap, first),
        "",
    ]


def _overlap(one: Mapping[str, Any]) -> str:
    place, words = f"{_cell(one['source'])}, {one['line']}", _cell(one["words"][:300])
    return f"| {one['set']} | {place} | {one['benchmark']} | {words} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items())) or "none"


def _rules(data: Data) -> list[str]:
    near = data.near_duplicate_jaccard
    longest = {name: source.max_demonstration_tokens for name, source in data.sources.items()}
    return [
        "Of equal prompts the first row is kept; the same prompt with another answer is set aside.",
        "Near duplicates were kept."
        if near is None
        else f"Of prompts with equal answers whose word 5-grams overlap by {near:.0%} or more the first is kept.",
        f"What shares {data.decontamination_ngram} consecutive words with a benchmark is in no set to learn from.",
        "Words that many problems share which are otherwise unlike each other do not count.",
        f"Prompts of over {data.max_prompt_tokens:,} tokens, template included, are left out.",
        *(
            f"So are rows of {name} whose demonstration is over {most:,} tokens, its end included."
            for name, most in longest.items()
            if most
        ),
        f"{data.validation_fraction:.1%} of each set to learn from are held out, chosen by the hash of the prompt.",
    ]


def _example(folder: Path, name: str) -> list[str]:
    """The first problem of a file."""
    table = next(pq.ParquetFile(folder / name).iter_batches(batch_size=1), None)
    if table is None:
        return []
    (row,) = table.to_pylist()
    shown = {key: row[key] for key in ("prompt", "response", "answer") if row[key]}
    lines = [f"{key}: {value[:EXAMPLE_CHARACTERS]}" for key, value in shown.items()]
    # Indented text is shown as it is, whatever it holds.
    return [f"`{name}` begins with", "", *("    " + line for text in lines for line in text.splitlines()), ""]


@styled
def _draw(path: Path, manifest: Manifest, lengths: Mapping[str, Counter[int]], limit: int) -> None:
    figure, (left, right) = panels(2, height=1.9 + 0.3 * max(4, len(manifest.sources)))
    _draw_fates(left, manifest)
    _draw_lengths(right, lengths, limit)
    path.write_bytes(to_png(figure))


def _draw_fates(axes: Axes, manifest: Manifest) -> None:
    names = [f"{tally.set}: {tally.source.rpartition('/')[2]}" for tally in manifest.sources]
    left = [0.0] * len(names)
    for fate, colour in FATES.items():
        shares = [_fate(tally, fate) / max(1, tally.read) for tally in manifest.sources]
        axes.barh(range(len(names)), shares, left=left, color=colour, height=0.62, label=fate)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    for row, tally in enumerate(manifest.sources):
        axes.text(1.01, row, f"{tally.kept:,} of {tally.read:,}", va="center", fontsize=8.5, color=MUTED)
    axes.set_yticks(range(len(names)), [name if len(name) <= 32 else f"{name[:31]}…" for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_title("What became of the rows", pad=22)
    axes.legend(**_ABOVE, ncols=3)


def _fate(tally: Tally, fate: str) -> int:
    left_out = {"removed": tally.removed, "set aside": tally.quarantined}
    return tally.kept if fate == "kept" else sum(left_out[fate].values())


def _draw_lengths(axes: Axes, lengths: Mapping[str, Counter[int]], limit: int) -> None:
    shown = {name: counts for name, counts in lengths.items() if counts and "validation" not in name}
    low = min(min(counts) for counts in shown.values())
    high = max(max(counts) for counts in shown.values())
    width = 1 + (high - low) // 40
    edges = [low - 0.5 + step * width for step in range((high - low) // width + 2)]
    for (name, counts), colour in zip(shown.items(), PHASES * len(shown), strict=False):
        shares = [count / counts.total() for count in counts.values()]
        label = name.removesuffix(".parquet").removeprefix("benchmarks/")
        axes.hist(list(counts), edges, weights=shares, histtype="step", linewidth=1.6, color=colour, label=label)
    axes.set_xlim(edges[0] - 4 * width, edges[-1] + 4 * width)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel(f"tokens, template included (at most {limit:,})")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_title("Length of the prompts", pad=22)
    axes.legend(**_ABOVE, ncols=min(4, len(shown)))
