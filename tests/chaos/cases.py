"""What may happen to a run, each with what must be true of it afterwards."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from tests.chaos import damage
from tests.chaos.bench import ORDER, Arrange, Bench, Outcome, jump_clock, limit_files, strike_at
from tests.chaos.faulty import FAULTS, Faulty


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
    if not outcome.well and outcome.told and fresh_on_refusal:
        bench.start(fresh_on_refusal, more=more, fresh=True).wait()
        outcome = bench.start(*steps, more=more).wait()
    if not outcome.well:
        return [f"the same command fails: {outcome.codes}\n{outcome.output}"]
    if not outcome.told:
        return [f"a traceback:\n{outcome.output}"]
    whole = not steps or steps[-1] == "report"
    return [*(f"stray process: {stray}" for stray in strays), *bench.faults(*more, whole=whole)]


def _before(step: str) -> str:
    return ("nothing", *ORDER)[ORDER.index(step)]


def _attacked(bench: Bench, step: str, arrange: Arrange, *, may_trace: bool = False) -> tuple[Outcome, list[str]]:
    """A step from the state before it, under attack."""
    bench.restore(_before(step))
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
        bench.restore(_before(step))
        command = bench.start(arrange=strike_at(number, victim, seed))
        command.wait()
        strays = [f"stray process after the attack: {stray}" for stray in command.strays()]
        return strays or settled(bench)

    return Case(f"kill {victim} of a whole run, in {step} at {where:.3f}", run)


def damaged(kind: str, way: str, seed: int, *, redo: str = "") -> Case:
    """Damage one file of a kind, after the last step or before the step `redo`; then the same command."""

    def run(bench: Bench) -> list[str]:
        bench.restore(_before(redo) if redo else "report")
        paths = damage.kinds(bench.runs).get(kind, [])
        if not paths:
            return []  # this kind comes later
        path = random.Random(seed).choice(paths)
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
            bench.restore(_before(step))
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
        bench.restore(_before(step))
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


def two_names(seed: int) -> Case:
    """Two runs of other names share store and tracking and go through all steps at once."""

    def run(bench: Bench) -> list[str]:
        bench.restore("nothing")
        names = ("run.name=one", "run.name=two")
        commands = [bench.start(more=(name,)) for name in names]
        outcomes = [command.wait(3 * 240.0) for command in commands]
        faults = [outcome.output for outcome in outcomes if not outcome.well or not outcome.told]
        wrong = [name for name in names if bench.summary(name) != bench.expected]
        return [*faults, *(f"{name}: another summary" for name in wrong)]

    return Case(f"two names at once ({seed})", run)


def faulty_store(step: str, faults: tuple[str, ...], seed: int, upstream: int) -> Case:
    """The run's objects are in S3, behind a proxy of which every third connection is faulty; then behind none."""

    def run(bench: Bench) -> list[str]:
        import boto3

        bench.restore(_before(step))
        bucket, direct = f"chaos-{seed}", f"http://127.0.0.1:{upstream}"
        client = boto3.client("s3", endpoint_url=direct, **KEYS)
        client.create_bucket(Bucket=bucket)
        objects = bench.runs / "objects"
        for path in (path for path in objects.rglob("*") if path.is_file()):
            client.upload_file(str(path), bucket, path.relative_to(objects).as_posix())
        shutil.rmtree(objects, ignore_errors=True)  # before the first step there are none
        proxy = Faulty(upstream, faults, 0.3, seed)
        more = (f"storage.uri=s3://{bucket}",)
        command = bench.start(step, arrange=partial(_in_s3, proxy.url), more=more)
        outcome = command.wait()
        found = [f"stray process after the attack: {stray}" for stray in command.strays()]
        if not outcome.told:
            found.append(f"a traceback under attack:\n{outcome.output}")
        proxy.shutdown()
        proxy.server_close()
        again = bench.start(step, arrange=partial(_in_s3, direct), more=more).wait()
        if not again.well:
            return [*found, f"the same command fails: {again.codes}\n{again.output}"]
        _in_s3(direct)
        held = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"] if "/claims/" in one["Key"]]
        read = (client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in held)
        found += ["a claim is held" for text in read if b'"token": ""' not in text]
        return [*found, *bench.faults(*more, whole=False)]

    return Case(f"S3 with {', '.join(faults)} in {step} ({seed})", run)


KEYS = {"aws_access_key_id": "access", "aws_secret_access_key": "of-the-test", "region_name": "us-east-1"}


def _in_s3(endpoint: str) -> None:
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "3"}
    os.environ |= {name.upper(): value for name, value in KEYS.items() if name != "region_name"}
    os.environ["AWS_DEFAULT_REGION"] = KEYS["region_name"]


def short() -> list[Case]:
    """Some of each kind that are quick; the same each time."""
    generator = random.Random(0)
    cases = [kill(step, "step", generator.random(), seed) for seed, step in enumerate(["prepare", "gate", "register"])]
    cases += [kill("prepare", "all", generator.random(), 1), kill_run("parent", "register", 0.5, 0)]
    hurt = ("result.json", "config.yaml", "journal.jsonl", "journal.offset", "COMMIT.json", "MANIFEST.json")
    cases += [
        _hurt(name, way, seed) for seed, (name, way) in enumerate(zip(hurt * 3, [*damage.WAYS] * 4, strict=False))
    ]
    cases += [full_disk("gate", 300), twice("gate", 0.1), clock("gate", 1)]
    return cases


def _hurt(name: str, way: str, seed: int) -> Case:
    """Damage to a file of this name, whichever it is."""

    def run(bench: Bench) -> list[str]:
        bench.restore("report")
        path = random.Random(seed).choice(sorted(bench.runs.rglob(name)))
        damage.apply(way, path, seed)
        return settled(bench, fresh_on_refusal=_maker(path.relative_to(bench.runs)))

    return Case(f"{way} a {name} ({seed})", run)


def long(bench: Bench, seed: int, s3: int) -> Iterator[Case]:
    """Without end, of all kinds in turn; `s3` is the port of a server."""
    generator = random.Random(seed)
    bench.restore("report")
    of_kind = [(kind, way) for kind in damage.kinds(bench.runs) for way in damage.WAYS]
    generator.shuffle(of_kind)
    mounts = can_mount(bench.folder / "probe")
    for number in count():
        step = generator.choice(ORDER)
        yield kill(step, generator.choice(["step", "parent", "child", "all"]), generator.random(), number)
        for kind, way in (of_kind[(2 * number + part) % len(of_kind)] for part in (0, 1)):
            yield damaged(kind, way, number, redo=generator.choice(["", "", *ORDER[1:]]))
        if number % 3 == 0:
            victim = generator.choice(["step", "parent", "child", "all"])
            yield kill_run(victim, generator.choice(ORDER[3:]), generator.random(), number)
            yield full_disk(step, int(2 ** generator.uniform(0, 18)))
        if number % 3 == 1:
            yield clock(step, number)
            yield twice(step, generator.choice([0.0, 0.05, 0.3, 1.0]))
        if number % 3 == 2 and mounts:
            yield small_disk(step, int(2 ** generator.uniform(10, 20)))
        if number % 3 == 2:
            yield faulty_store(step, (generator.choice(FAULTS),), number, s3)
        if number % 12 == 5 and mounts:
            yield read_only(step)
        if number % 24 == 11:
            yield two_names(number)


def said(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True, file=sys.stdout)
