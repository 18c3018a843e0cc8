"""Verifications per second, and what hostile responses do to the verifier's processes.

    python -m benchmarks.rewards [--json] [--items 100000] [--workers 1]

Clean: integers as in DAPO-Math-17k, a mix of fractions, roots, sets, intervals and expressions, and what olympiads ask
for, none twice, at the end of responses of about 1,000 characters; beside math-verify's own `parse` and `verify` (with
its default time limits) in a `ProcessPoolExecutor` of as many processes. Hostile: what a model may write by accident or
to cheat; each item must get an outcome, in bounded time and memory, leaving no process.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing import get_context
from random import Random

import psutil

from benchmarks.harness import context
from fipo.rewards.pool import GraderPool

TIMEOUT_SECONDS = 2.0
HOSTILE = [
    r"\boxed{10^{10^{9}}}",
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{1000000000!}",
    r"\boxed{" * 10_000,
    r"\boxed{1}" * 10_000,
    r"\boxed{" + r"\sqrt{" * 400 + "2" + "}" * 401,
    r"\boxed{" + "9" * 1_000_000 + "}",
    "9" * 1_000_000,
    "\\boxed{√２\U0001f600\ud800}",
    "\x00" * 100_000 + r"\boxed{1}",
    "import os\nos.system('echo owned')\n\\boxed{__import__('os').system('echo owned')}",
    r"\boxed{\int_0^1 e^{-x^2} \sin(x^x) dx}",
]


INTEGERS = [("{a}", "{a}", "{b}")]
MIX = [
    *INTEGERS,
    (r"\frac{{{a}}}{{{b}}}", "{a}/{b}", "{b}/{a}"),
    ("{a}.5", r"\frac{{{a}1}}{{2}}", "{b}.5"),
    (r"{a}\sqrt{{2}}", r"\sqrt{{2}} \cdot {a}", r"\sqrt{{3}} \cdot {a}"),
    ("x = {a}", "{a}", "{b}"),
    (r"\{{{a}, {b}\}}", "{b}, {a}", "{a}"),
    ("({a}, {b})", "({a},{b})", "({b},{a})"),
    ("[{a}, {b})", "[{a}, {b})", "[{a}, {b}]"),
    ("{a}x + {b}", "{b} + {a}x", "{b}x + {a}"),
    (r"{a} \text{{ cm}}", "{a}", "{b}"),
]
OLYMPIAD = [
    (r"\frac{{{a}\sqrt{{{b}}}+1}}{{7}}", r"\frac{{1+{a}\sqrt{{{b}}}}}{{7}}", r"\frac{{1-{a}\sqrt{{{b}}}}}{{7}}"),
    (
        r"\frac{{{a}}}{{{b}}}\pi - 2\sqrt{{3}}",
        r"-2\sqrt{{3}}+\frac{{{a}\pi}}{{{b}}}",
        r"\frac{{{b}\pi}}{{{a}}}-2\sqrt{{3}}",
    ),
    (r"\frac{{n(n+{a})}}{{{b}}}", r"\frac{{n^2+{a}n}}{{{b}}}", r"\frac{{n^2-{a}n}}{{{b}}}"),
    (r"({a}, 1), (2, {b})", r"(2,{b}), ({a},1)", r"(1,{a}), (2,{b})"),
    (
        r"\left[\frac{{{a}}}{{{b}}}, {a}\sqrt{{2}}\right)",
        r"[\frac{{{a}}}{{{b}}}, \sqrt{{2}}\cdot {a})",
        r"[{a}, {b}\sqrt{{2}})",
    ),
    (r"f(x) = {a}x^2 + {b}x + 1", r"{a}x^2+1+{b}x", r"{a}x^2+1-{b}x"),
    (
        r"x = \frac{{{a} \pm \sqrt{{{b}}}}}{{3}}",
        r"\frac{{{a}-\sqrt{{{b}}}}}{{3}}, \frac{{{a}+\sqrt{{{b}}}}}{{3}}",
        "{a}, {b}",
    ),
    (r"\cos\frac{{{a}\pi}}{{7}} + \ln {b}", r"\ln {b}+\cos\left(\frac{{{a}}}{{7}}\pi\right)", r"\ln {b}+\sin {a}"),
    (r"{a}x + {b}y = 3", r"{b}y = 3 - {a}x", r"{b}x = 3 - {a}y"),
]
"""Forms of an answer, an equal reference and an unequal one, with two numbers that are new each time."""


def clean_pairs(forms: list[tuple[str, str, str]], count: int) -> list[tuple[str, str]]:
    random = Random(0)
    steps = " ".join(f"Step {number}: we find $x_{{{number}}} = {number * 7}$, as before." for number in range(24))
    pairs = []
    for _ in range(count):
        answer, equal, unequal = random.choice(forms)
        a, b = random.sample(range(1, 10**6), 2)
        reference = random.choice((equal, unequal)).format(a=a, b=b)
        pairs.append((rf"{steps} So it is \boxed{{{answer.format(a=a, b=b)}}}.", reference))
    return pairs


def peer_verify(pair: tuple[str, str]) -> bool:
    from math_verify import parse, verify

    response, answer = pair
    return bool(verify(parse(rf"\boxed{{{answer}}}"), parse(response)))


def peer_rate(pairs: list[tuple[str, str]], workers: int) -> float:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(peer_verify, pairs[:20]))
        started = time.perf_counter()
        list(pool.map(peer_verify, pairs))
        return len(pairs) / (time.perf_counter() - started)


def our_rate(pairs: list[tuple[str, str]], workers: int) -> tuple[float, float]:
    """Verifications per second, and megabytes by which the workers grew after the first tenth."""
    tenth = max(len(pairs) // 10, 1)
    with GraderPool(workers, timeout_seconds=5.0) as pool:
        pool.verify(pairs[:tenth])
        before = sum(map(resident, worker_processes()))
        started = time.perf_counter()
        pool.verify(pairs[tenth:])
        seconds = time.perf_counter() - started
        return (len(pairs) - tenth) / seconds, (sum(map(resident, worker_processes())) - before) / 2**20


def hostile(workers: int) -> dict[str, object]:
    pairs = [pair for response in HOSTILE * 2 for pair in ((response, "3"), (r"\boxed{3}", "3"))]
    with watched() as (memory, seen):
        with GraderPool(workers, TIMEOUT_SECONDS) as pool:
            pool.verify([(r"\boxed{1}", "1")])
            started = time.perf_counter()
            outcomes = pool.verify(pairs)
            seconds = time.perf_counter() - started
        _, stray = psutil.wait_procs(seen, timeout=2.0)
    assert len(outcomes) == len(pairs)
    assert all(outcome == "correct" for outcome in outcomes[1::2]), "a hostile neighbour changed a verdict"
    return {
        "items": len(pairs),
        "outcomes": dict(Counter(map(str, outcomes))),
        "seconds": seconds,
        "seconds_at_most": len(HOSTILE) * 2 * TIMEOUT_SECONDS / workers,
        "peak_megabytes": memory["peak"] / 2**20,
        "stray_processes": len(stray),
    }


@contextmanager
def watched() -> Iterator[tuple[dict[str, int], set[psutil.Process]]]:
    """The largest resident memory of all workers together, looked at ten times a second, and all that there were."""
    memory, seen, over = {"peak": 0}, set(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            workers = worker_processes()
            seen.update(workers)
            memory["peak"] = max(memory["peak"], sum(map(resident, workers)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory, seen
    finally:
        over.set()
        thread.join()


def resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def worker_processes() -> list[psutil.Process]:
    """The verifiers of this process."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "fipo.rewards.worker" in child.cmdline()]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    ours, peers, growth = {}, {}, {}
    for name, forms, count in (
        ("integers", INTEGERS, arguments.items),
        ("mix", MIX, arguments.items // 20),
        ("olympiad", OLYMPIAD, arguments.items // 100),
    ):
        pairs = clean_pairs(forms, count)
        rate, growth[name] = our_rate(pairs, arguments.workers)
        ours[name] = rate / arguments.workers
        peers[name] = peer_rate(pairs[: 1000 if name == "integers" else 200], arguments.workers) / arguments.workers
        print(
            f"{name}: {count} items, {ours[name]:.0f} verifications/s per process; math-verify {peers[name]:.0f} "
            f"({ours[name] / peers[name]:.1f} times); memory grew by {growth[name]:.1f} MB",
            flush=True,
        )
    attacked = hostile(arguments.workers)
    print(
        f"hostile: {attacked['items']} items in {attacked['seconds']:.1f} s of {attacked['seconds_at_most']:.0f}, "
        f"{attacked['peak_megabytes']:.0f} MB, {attacked['stray_processes']} stray processes: {attacked['outcomes']}"
    )
    if arguments.json:
        found = context()
        found["versions"] |= {"math-verify": version("math-verify")}
        ratios = {"ratio": ours["integers"] / peers["integers"]}
        ratios |= {f"ratio_{name}": ours[name] / peers[name] for name in ("mix", "olympiad")}
        measured = {"per_second_per_core": ours, "peer_per_second_per_core": peers, "growth_megabytes": growth}
        print(json.dumps({**ratios, **measured, "hostile": attacked, **found}))


if __name__ == "__main__":
    main()
