"""What a preparation did: for each source what became of its rows, and the files that came out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from fipo.data.overlap import Match
from fipo.data.rows import Reason, Row, RowError
from fipo.errors import DataError
from fipo.files import replacing, sha256_of

OVERLAP_CHARACTERS = 1000
"""Of a problem that is listed for what it overlaps."""
OVERLAPS_SHOWN = 20
"""Of them, in the data card."""


@dataclass(slots=True)
class Tally:
    """What became of the rows of one source: `read` is the sum of all the others."""

    set: str
    """`train`, `sft`, or a benchmark's name."""
    source: str
    """URI or name of the generator."""
    read: int = 0
    """Rows found, blank lines left out."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Faulty rows by reason; each is in quarantine.jsonl."""
    removed: dict[str, int] = field(default_factory=dict)
    """Sound rows that the set is better without, by reason."""
    kept: int = 0
    demonstrations: dict[str, int] = field(default_factory=dict)
    """What the grader says of the demonstrations, by outcome; empty where none are learned from."""

    def set_aside(self, reason: Reason) -> None:
        """Count a faulty row."""
        self.quarantined[reason] = self.quarantined.get(reason, 0) + 1

    def remove(self, reason: Reason) -> None:
        """Count a row that the set is better without."""
        self.removed[reason] = self.removed.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """One file that was written."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of one preparation; equal inputs and settings give an equal one."""

    config: dict[str, Any]
    """The recipe's data section, resolved."""
    config_digest: str
    """SHA-256 (hex) of the settings that determine the result: the sections data and model."""
    sources: tuple[Tally, ...]
    files: dict[str, PreparedFile]
    """By path below the folder."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows read, quarantined and removed in all, and the rows of each file (`benchmarks/aime-2024`)."""
        totals = {
            "read": sum(tally.read for tally in self.sources),
            "quarantined": sum(sum(tally.quarantined.values()) for tally in self.sources),
            "removed": sum(sum(tally.removed.values()) for tally in self.sources),
        }
        return totals | {name.removesuffix(".parquet"): file.rows for name, file in self.files.items()}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a prepared folder.

        Raises:
            DataError: there is none: the preparation has not finished.
        """
        try:
            tree = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{folder}: no manifest.json; run `fipo prepare` first") from error
        files = {name: PreparedFile(**file) for name, file in tree["files"].items()}
        return cls(**{**tree, "sources": tuple(Tally(**tally) for tally in tree["sources"]), "files": files})

    def write(self, folder: Path) -> None:
        """Write manifest.json, whole or not at all."""
        with replacing(folder / "manifest.json") as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Check every file against its digest.

        Raises:
            DataError: a file is missing or was changed.
        """
        for name, file in self.files.items():
            if not (folder / name).is_file():
                raise DataError(f"{folder / name} is missing; run `fipo prepare` again")
            if (found := sha256_of(folder / name)) != file.sha256:
                raise DataError(f"{folder / name} was changed: SHA-256 {found}, the manifest says {file.sha256}")


class Quarantine:
    """Sets faulty rows aside in a JSONL file: where each came from, what is wrong, how it begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def add(self, tally: Tally, row: Row, error: RowError) -> None:
        """Record and count one row."""
        tally.set_aside(error.reason)
        entry = {
            "set": tally.set,
            "source": tally.source,
            "line": row.line,
            "reason": error.reason,
            "detail": error.detail,
            "excerpt": row.excerpt(),
        }
        self._file.write(json.dumps(entry) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class Overlaps:
    """Lists removed problems beside the benchmarks' problems that they overlap, in a JSONL file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self.first: list[dict[str, Any]] = []
        """For the data card."""

    def add(self, tally: Tally, row: Row, prompt: str, matches: Sequence[Match]) -> None:
        """Count and list one problem that overlaps others."""
        tally.remove(Reason.CONTAMINATED)
        place = {"set": tally.set, "source": tally.source, "line": row.line, "prompt": prompt[:OVERLAP_CHARACTERS]}
        for match in matches:
            problem = match.problem[:OVERLAP_CHARACTERS]
            entry = {**place, "benchmark": match.benchmark, "problem": problem, "words": match.words}
            self._file.write(json.dumps(entry) + "\n")
            if len(self.first) < OVERLAPS_SHOWN:
                self.first.append(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def explain(tallies: list[Tally]) -> str:
    """The counts in words: `1,000 rows read; 990 not JSON, 10 exact duplicate`."""
    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons.update(tally.quarantined)
        reasons.update(tally.removed)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"{sum(tally.read for tally in tallies):,} rows read; {counts or 'nothing removed'}"
