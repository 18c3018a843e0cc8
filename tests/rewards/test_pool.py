"""The verifier's processes, given what a model may write, killed, and left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import psutil
import pytest

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.pool import START_SECONDS, GraderPool
from fipo.rewards.sandbox.client import Limits
from fipo.rewards.worker import Settings
from tests.present import present
from tests.waiting import wait_until, wait_until_gone

HOSTILE = {
    r"\boxed{10^{10^{9}}}": Outcome.WRONG,
    r"\boxed{1000000000!}": Outcome.WRONG,
    r"\boxed{" * 10_000: Outcome.UNPARSED,
    r"\boxed{1}" * 10_000: Outcome.WRONG,
    r"\boxed{" + r"\sqrt{" * 1000 + "2" + "}" * 1001: Outcome.UNPARSED,
    r"\boxed{" + "9" * 1_000_000 + "}": Outcome.UNPARSED,
    "\\boxed{√\x00\U0001f600\ud800}": Outcome.UNPARSED,
    "\x00" * 5000: Outcome.UNPARSED,
    "\\boxed{__import__('os').system('exit')}": Outcome.UNPARSED,
}


MODULE = """
from fipo.outcome import Grade, Outcome

def busy(response, reference, columns):
    while True: pass

def greedy(response, reference, columns):
    return Grade(Outcome.CORRECT, str(len(bytes(200 << 20))))
"""


@pytest.fixture
def graders(tmp_path, monkeypatch):
    """A module of graders in the working directory, where workers look first."""
    (tmp_path / "pool_graders.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def descendants():
    return [
        process for process in psutil.Process().children(recursive=True) if "fipo.rewards.worker" in process.cmdline()
    ]


@pytest.fixture(scope="module")
def pool():
    with GraderPool(workers=2, timeout_seconds=1.0) as pool:
        yield pool


def test_hostile_items_get_their_outcome_and_the_others_keep_theirs(pool):
    pairs = [pair for response in HOSTILE for pair in [(response, "3"), (r"\boxed{3}", "3"), (r"\boxed{4}", "3")]]
    expected = [outcome for hostile in HOSTILE.values() for outcome in (hostile, Outcome.CORRECT, Outcome.WRONG)]
    assert pool.verify(pairs) == expected


def test_an_item_has_its_time_and_its_neighbours_keep_their_outcomes(graders):
    items = [("pool_graders:busy", "", "3", "{}"), ("math", r"\boxed{3}", "3", "{}")] * 2
    with GraderPool(workers=2, timeout_seconds=1.0) as pool:
        started = time.perf_counter()
        assert [found.outcome for found in pool.grade(items)] == [Outcome.TIMEOUT, Outcome.CORRECT] * 2
        # Without the limit of a second, an item is given up after fipo.rewards.pool.START_SECONDS and tried again.
        assert time.perf_counter() - started < START_SECONDS


def test_nested_radicals_do_not_hold_up_the_pool(pool):
    # How far it gets in a second depends on the machine.
    nested = [(r"\boxed{" + r"\sqrt{" * depth + "2" + "}" * (depth + 1), "3") for depth in (60, 400)]
    assert all(outcome is not Outcome.CORRECT for outcome in pool.verify(nested))


def test_order_is_kept(pool):
    pairs = [(rf"\boxed{{{index}}}", str(index + index % 3)) for index in range(300)]
    assert pool.verify(pairs) == [Outcome.CORRECT if index % 3 == 0 else Outcome.WRONG for index in range(300)]


def test_workers_that_are_killed_are_replaced(pool):
    assert pool.verify([(r"\boxed{1}", "1")]) == [Outcome.CORRECT]
    for process in descendants():
        process.kill()
    assert pool.verify([(r"\boxed{1}", "1")] * 8) == [Outcome.CORRECT] * 8


def test_a_reference_that_does_not_parse_is_named(pool):
    with pytest.raises(RewardError, match="reference answer ''"):
        pool.verify([(r"\boxed{1}", "1"), (r"\boxed{1}", "")])
    assert pool.verify([(r"\boxed{1}", "1")]) == [Outcome.CORRECT]


def test_workers_import_no_torch_and_hold_no_secrets(pool, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    with GraderPool(workers=1, timeout_seconds=5.0) as other:
        other.verify([(r"\boxed{1}", "1")])
        for process in descendants():
            assert "AWS_SECRET_ACCESS_KEY" not in process.environ()
            assert not any("torch" in mapping.path for mapping in process.memory_maps())


def test_memory_is_limited(graders):
    before = set(descendants())
    with GraderPool(workers=1, timeout_seconds=30.0, memory_bytes=100 << 20) as pool:
        assert pool.verify([(r"\boxed{3}", "3")]) == [Outcome.CORRECT]
        limits = {process.rlimit(psutil.RLIMIT_AS)[0] for process in set(descendants()) - before}
        assert 100 << 20 in limits
        items = [("pool_graders:greedy", "", "3", "{}"), ("math", r"\boxed{3}", "3", "{}")]
        assert [found.outcome for found in pool.grade(items)] == [Outcome.TIMEOUT, Outcome.CORRECT]


def test_no_process_stays_after_close():
    others = set(descendants())
    pool = GraderPool(workers=2, timeout_seconds=5.0)
    pool.verify([(r"\boxed{1}", "1")] * 4)
    workers = set(descendants()) - others
    assert len(workers) == 4
    pool.close()
    pool.close()
    wait_until_gone(workers)


def test_a_worker_ends_without_a_word_when_nobody_reads_its_reply():
    ours, theirs = socket.socketpair()
    settings = json.dumps(asdict(Settings(seconds=5.0, memory_bytes=1 << 30, programs=Limits())))
    command = [sys.executable, "-m", "fipo.rewards.worker", str(theirs.fileno()), settings]
    worker = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
    theirs.close()
    ours.sendall(json.dumps([1, "grade", "math", "5", "5", "{}"]).encode() + b"\n")
    ours.recv(1, socket.MSG_PEEK)
    ours.close()  # as of a process that is killed: the other end is told that what it wrote is lost
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, said) == (0, "")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_process_stays_when_the_trainer_ends(end, graders):
    program = """
import threading
from fipo.rewards.pool import GraderPool
pool = GraderPool(workers=2, timeout_seconds=2.0)
pool.verify([(r"\\boxed{1}", "1")] * 4)
print("ready", flush=True)
pool.grade([("pool_graders:busy", "", "1", "{}")] * 200)  # 400 s of work
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as trainer:
        try:
            assert present(trainer.stdout).readline() == b"ready\n"
            workers = psutil.Process(trainer.pid).children(recursive=True)
            assert len(workers) == 4
            before = [worker.cpu_times().user for worker in workers]
            wait_until(lambda: sum(w.cpu_times().user > past + 0.2 for w, past in zip(workers, before)) == 2)  # verify
            os.kill(trainer.pid, end)
            trainer.wait(timeout=600)
        finally:
            trainer.kill()
    wait_until_gone(workers)


def test_a_reference_answer_must_parse_in_time_and_equal_itself():
    with GraderPool(1, timeout_seconds=1.0) as pool:
        assert [pool.refusal("math", answer) for answer in ("12", r"\frac{1}{2}")] == ["", ""]
        assert "reference answer ''" in pool.refusal("math", "")
