"""Where a run is, for whoever watches it: `stages.json` in its folder, and `pace.json` in that of the step at work.

Both are small and replaced whole. They decide nothing: what has finished is for the object store to say.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from fipo.errors import FipoError, Interrupted
from fipo.files import replacing
from fipo.run.step import STEPS

STAGES, PACE = "stages.json", "pace.json"
WHOLE = "steps"
"""Name of the pace of a whole step; other names are of the part at work."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a run, as it was when it last began or ended."""

    state: str
    """`running`, `done`, `failed` or `stopped`."""
    folder: str
    """Where it works, or has worked: its journal and its records."""
    fingerprint: str
    began: float
    """Seconds since 1970."""
    seconds: float = 0.0
    """Of the attempt that has ended."""
    reused: bool = False
    """Found, and not computed."""
    why: str = ""
    """It has failed or stopped, for this."""
    process: int = 0
    """Id of the process that runs it, on the machine `node`."""
    node: str = ""

    @classmethod
    def reused_at(cls, folder: Path, fingerprint: str, seconds: float) -> Self:
        """One that was found; `seconds` is what it had taken."""
        return cls("done", str(folder), fingerprint, time.time(), seconds, reused=True)

    @property
    def lost(self) -> bool:
        """Whether its process is gone without a word, as far as can be told from here."""
        return (
            self.state == "running" and self.node == os.uname().nodename and not Path(f"/proc/{self.process}").exists()
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """How far something is that takes long."""

    what: str
    """`WHOLE`, or a part: `step 3: sampling`."""
    done: int
    total: int
    rate: float
    """A second; 0 before the first is done."""
    at: float
    """Seconds since 1970 when it was so."""

    @property
    def speed(self) -> str:
        """`12.5/s`, or `30 s each` of what is slower than one a second."""
        return f"{self.rate:.3g}/s" if self.rate >= 1.0 or not self.rate else f"{1.0 / self.rate:.3g} s each"

    @property
    def seconds_left(self) -> float | None:
        """From now on, at that rate; None where it cannot be told."""
        return self.left_at(time.time())

    def left_at(self, now: float) -> float | None:
        """The same from a time on, in seconds since 1970."""
        return max(0.0, (self.total - self.done) / self.rate - (now - self.at)) if self.rate else None


def read_stages(folder: Path) -> dict[str, Stage]:
    """By step, in order; empty for a run that has done nothing here."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads((folder / STAGES).read_text(encoding="utf-8"))
        return {step: Stage(**found[step]) for step in STEPS if step in found}
    return {}


def write_stage(folder: Path, step: str, stage: Stage) -> None:
    """A step begins or has ended: what comes after it is still to be done."""
    order = list(STEPS)
    stages = {name: one for name, one in read_stages(folder).items() if order.index(name) < order.index(step)}
    tree = {name: asdict(one) for name, one in {**stages, step: stage}.items()}
    # It is only for looking at: a full disk is for those to tell who need what they write.
    with suppress(OSError), replacing(folder / STAGES, private=True) as unfinished:
        unfinished.write_text(json.dumps(tree, indent=1), encoding="utf-8")


@contextmanager
def at_work(run: Path, step: str, *, folder: Path, fingerprint: str) -> Iterator[None]:
    """Say that the step is at work, and afterwards how that has ended."""
    stage = Stage("running", str(folder), fingerprint, time.time(), process=os.getpid(), node=os.uname().nodename)
    with suppress(OSError):
        (folder / PACE).unlink(missing_ok=True)
    write_stage(run, step, stage)

    def ended(state: str, why: str = "") -> None:
        write_stage(run, step, replace(stage, state=state, seconds=round(time.time() - stage.began, 1), why=why))

    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        ended("stopped" if stopped else "failed", str(error) if isinstance(error, FipoError) else repr(error))
        raise
    ended("done")


def read_pace(folder: Path) -> dict[str, Pace]:
    """How far the step in this folder is: with `steps` the whole of it, with other names the part at work."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found: Mapping[str, dict[str, object]] = json.loads((folder / PACE).read_text(encoding="utf-8"))
        return {name: Pace(**fields) for name, fields in found.items()}  # type: ignore[arg-type]
    return {}


def write_pace(folder: Path, paces: Mapping[str, Pace]) -> None:
    """Say how far the step in this folder is."""
    with replacing(folder / PACE) as unfinished:
        unfinished.write_text(json.dumps({name: asdict(pace) for name, pace in paces.items()}), encoding="utf-8")
