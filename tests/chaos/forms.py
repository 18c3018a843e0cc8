"""Which attacks are made: a short form, the same each time, and a long one of all kinds in turn."""

import random
from collections.abc import Iterator
from itertools import count

from tests.chaos import damage
from tests.chaos.bench import ORDER, Bench
from tests.chaos.cases import (
    Case,
    before,
    can_mount,
    clock,
    damaged,
    full_disk,
    hurt,
    kill,
    kill_run,
    read_only,
    small_disk,
    twice,
    twice_whole,
    two_names,
)
from tests.chaos.faulty import STORE_FAULTS, TRACKING_FAULTS
from tests.chaos.served import Servers, faulty_store, faulty_tracking, restarted_tracking


def short() -> list[Case]:
    """Some of each kind that are quick; the same each time."""
    generator = random.Random(0)
    cases = [kill(step, "step", generator.random(), seed) for seed, step in enumerate(["prepare", "gate", "register"])]
    cases += [kill("gate", "all", generator.random(), 1), kill_run("parent", "register", 0.5, 0)]
    names = ("result.json", "config.yaml", "journal.jsonl", "journal.offset", "COMMIT.json", "MANIFEST.json")
    cases += [
        hurt(name, way, seed) for seed, (name, way) in enumerate(zip(names * 3, [*damage.WAYS] * 4, strict=False))
    ]
    cases += [full_disk("gate", 300), twice("gate", 0.1), clock("gate", 1)]
    return cases


def long(bench: Bench, seed: int, servers: Servers) -> Iterator[Case]:
    """Without end, of all kinds in turn."""
    generator = random.Random(seed)
    kinds = {step: damage.kinds(bench.kept(before(step))) for step in ORDER[1:]}
    of_kind = [(kind, way) for kind in damage.kinds(bench.kept("report")) for way in damage.WAYS]
    generator.shuffle(of_kind)
    mounts = can_mount(bench.folder / "probe")
    for number in count():
        step = generator.choice(ORDER)
        yield kill(step, generator.choice(["step", "parent", "child", "all"]), generator.random(), number)
        for kind, way in (of_kind[(2 * number + part) % len(of_kind)] for part in (0, 1)):
            there = [step for step in ORDER[1:] if kind in kinds[step]]
            yield damaged(kind, way, number, redo=generator.choice(["", "", *there]))
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
            turn = number // 3  # through all faults, each in a random step
            yield faulty_store(step, (STORE_FAULTS[turn % len(STORE_FAULTS)],), number, servers)
            fault = (*TRACKING_FAULTS, "restart")[turn % (len(TRACKING_FAULTS) + 1)]
            yield _of_tracking(fault, generator.choice(ORDER), generator.randrange(1, 12), number, servers)
        if number % 12 == 5 and mounts:
            yield read_only(step)
        if number % 24 == 11:
            yield two_names(number)
        if number % 24 == 23:
            yield twice_whole(generator.choice([0.0, 0.3, 3.0]))


def _of_tracking(fault: str, step: str, request: int, number: int, servers: Servers) -> Case:
    if fault == "restart":
        return restarted_tracking(step, request, servers)
    return faulty_tracking(step, (fault,), number, servers)
