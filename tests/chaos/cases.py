"""What may happen to a run, each with what must be true of it afterwards."""

import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import damage
from tests.chaos.attacks import Arrange, jump_clock, limit_files, strike_at
from tests.chaos.bench import ORDER, Bench, Outcome


@dataclass(frozen=True)
class Case:
    """One attack."""

    name: str
    run: Callable[[Bench], list[str]]
    """Attack, give the same command again, and say what is not as it must be."""


def settled(bench: Bench, *steps: str, fresh_on_refusal: str = "", more: tuple[str, ...] = ()) -> list[str]:
    """Give the command again; what is wrong then.

    Args:
        bench: the run.
        steps: of the command; all, if none is named.
        fresh_on_refusal: the step that `--fresh` is given for where the command is refused with a sentence.
        more: further settings.
    """
    command = bench.start(*steps, more=more)
    outcome = command.wait()
    strays = command.strays()
    refused = not outcome.well and outcome.told and bool(fresh_on_refusal)
    if refused:
        bench.start(fresh_on_refusal, more=more, fresh=True).wait()
        outcome = bench.start(*steps, more=more).wait()
    if not outcome.well:
        return [f"the same command fails: {outcome.codes}\n{outcome.output}"]
    if not outcome.told:
        return [f"a traceback:\n{outcome.output}"]
    whole = not steps or steps[-1] == "report"
    return [*(f"stray process: {stray}" for stray in strays), *bench.faults(*more, whole=whole, refused=refused)]


def before(step: str) -> str:
    """What the run was like before it: a state that the bench has kept."""
    return ("nothing", *ORDER)[ORDER.index(step)]


def _attacked(bench: Bench, step: str, arrange: Arrange, *, may_trace: bool = False) -> tuple[Outcome, list[str]]:
    """A step from the state before it, under attack."""
    bench.restore(before(step))
    command = bench.start(step, arrange=arrange)
    outcome = command.wait()
    faults = [f"stray process after the attack: {stray}" for stray in command.strays()]
    if not outcome.told and not may_trace:
        faults.append(f"a traceback under attack:\n{outcome.output}")
    return outcome, faults


def kill(step: str, victim: str, where: float, seed: int) -> Case:
    """Kill a process of a step at a share `where` of its way; then the step again, and what follows it."""

    def run(bench: Bench) -> list[str]:
        number = max(1, int(where * bench.events[step]))
        # A grader or a connection that is lost to it may be told with a traceback: nobody has caught a dead child.
        _, faults = _attacked(bench, step, strike_at(number, victim, seed), may_trace=victim == "child")
        return faults or settled(bench, step)

    return Case(f"kill {victim} of {step} at {where:.3f}", run)


def kill_run(victim: str, step: str, where: float, seed: int) -> Case:
    """The same within a command of all steps, from the beginning of this one."""

    def run(bench: Bench) -> list[str]:
        number = max(1, int(where * bench.events[step]))
        bench.restore(before(step))
        command = bench.start(arrange=strike_at(number, victim, seed))
        command.wait()
        strays = [f"stray process after the attack: {stray}" for stray in command.strays()]
        return strays or settled(bench)

    return Case(f"kill {victim} of a whole run, in {step} at {where:.3f}", run)


def damaged(kind: str, way: str, seed: int, *, redo: str = "") -> Case:
    """Damage one file of a kind, after the last step or before the step `redo`; then the same command."""

    def run(bench: Bench) -> list[str]:
        bench.restore(before(redo) if redo else "report")
        path = random.Random(seed).choice(damage.kinds(bench.runs)[kind])
        damage.apply(way, path, seed)
        # Where the damaged file is the only copy of something, the step that made it is named, and made anew.
        return settled(bench, fresh_on_refusal=_maker(path.relative_to(bench.runs)))

    return Case(f"{way} {kind}{f' before {redo}' if redo else ''}", run)


def _maker(path: Path) -> str:
    return next((part for part in path.parts if part in ORDER), "prepare")


def full_disk(step: str, size: int) -> Case:
    """No file may grow beyond a size."""

    def run(bench: Bench) -> list[str]:
        _, faults = _attacked(bench, step, limit_files(size), may_trace=True)
        return faults or settled(bench, step)

    return Case(f"full disk ({size} bytes a file) in {step}", run)


def small_disk(step: str, spare: int) -> Case:
    """The run's folder is a disk of its own with so many bytes to spare, which later grows."""
    return _mounted(f"full disk ({spare} bytes to spare) in {step}", step, spare)


def read_only(step: str) -> Case:
    """The run's folder cannot be written to, and later can."""
    return _mounted(f"read-only folder in {step}", step, None)


def _mounted(name: str, step: str, spare: int | None) -> Case:
    def run(bench: Bench) -> list[str]:
        bench.runs.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", "size=256m", "none", str(bench.runs))
        try:
            bench.restore(before(step))
            used = sum(4096 * (1 + path.stat().st_size // 4096) for path in bench.runs.rglob("*"))
            mount("-o", "remount,ro" if spare is None else f"remount,size={used + spare}", str(bench.runs))
            command = bench.start(step)
            outcome, strays = command.wait(), command.strays()
            mount("-o", "remount,rw,size=256m", str(bench.runs))
            faults = [f"stray process after the attack: {stray}" for stray in strays]
            if spare is None and outcome.well:
                faults.append("it ended well in a folder that cannot be written to")
            return faults or settled(bench, step)
        finally:
            subprocess.run(["umount", "--lazy", str(bench.runs)], check=True)

    return Case(name, run)


def mount(*arguments: str) -> None:
    """`mount`, for root."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a disk."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def clock(step: str, seed: int) -> Case:
    """The clock jumps while the step runs."""

    def run(bench: Bench) -> list[str]:
        outcome, faults = _attacked(bench, step, jump_clock(seed))
        if not outcome.well:
            faults.append(f"it fails: {outcome.output}")
        return faults or settled(bench, step)

    return Case(f"the clock jumps in {step} ({seed})", run)


def twice(step: str, pause_seconds: float) -> Case:
    """The same step is begun twice at once: one works, the other is told so, or finds it finished."""

    def run(bench: Bench) -> list[str]:
        bench.restore(before(step))
        first = bench.start(step)
        time.sleep(pause_seconds)
        second = bench.start(step)
        outcomes = [first.wait(), second.wait()]
        strays = [stray for command in (first, second) for stray in command.strays()]
        faults = [f"a traceback:\n{outcome.output}" for outcome in outcomes if not outcome.told]
        if not any(outcome.well for outcome in outcomes):
            faults.append("neither ended well")
        return [*faults, *strays] or settled(bench, step)

    return Case(f"{step} twice at once, {pause_seconds:.2f} s apart", run)


def twice_whole(pause_seconds: float) -> Case:
    """Two commands of all steps under one name: each step is done by one of them, and whoever is refused is told so."""

    def run(bench: Bench) -> list[str]:
        bench.restore("nothing")
        first = bench.start()
        time.sleep(pause_seconds)
        second = bench.start()
        outcomes = [command.wait() for command in (first, second)]
        strays = [stray for command in (first, second) for stray in command.strays()]
        faults = [f"a traceback:\n{outcome.output}" for outcome in outcomes if not outcome.told]
        return [*faults, *strays] or settled(bench)

    return Case(f"all steps twice at once, {pause_seconds:.2f} s apart", run)


def two_names(seed: int) -> Case:
    """Two runs of other names share store and tracking and go through all steps at once."""

    def run(bench: Bench) -> list[str]:
        bench.restore("nothing")
        names = ("run.name=one", "run.name=two")
        commands = [bench.start(more=(name,)) for name in names]
        outcomes = [command.wait() for command in commands]
        faults = [outcome.output for outcome in outcomes if not outcome.well or not outcome.told]
        wrong = [name for name in names if bench.summary(name) != bench.expected]
        return [*faults, *(f"{name}: another summary" for name in wrong)]

    return Case(f"two names at once ({seed})", run)


def hurt(name: str, way: str, seed: int) -> Case:
    """Damage to a file of this name, whichever it is."""

    def run(bench: Bench) -> list[str]:
        bench.restore("report")
        path = random.Random(seed).choice(sorted(bench.runs.rglob(name)))
        damage.apply(way, path, seed)
        return settled(bench, fresh_on_refusal=_maker(path.relative_to(bench.runs)))

    return Case(f"{way} a {name} ({seed})", run)
