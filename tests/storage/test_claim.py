"""One machine at a time works on a step: processes that share a real store, die, freeze and come back."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fipo.errors import LaunchError
from fipo.storage import claim, claimed

STALE = 3.0
"""How long the dead are waited for."""
ALIVE = 60.0
"""The same, in tests where a living holder must renew its claim in this time on a busy machine too."""

HOLDER = """
import sys, time
from fipo.storage import claim, claimed, open_store

claim.RENEW_SECONDS, claim.STALE_SECONDS = 0.2, 3.0
with claimed(open_store(sys.argv[1]), "run/step", holder="first", on_lost=lambda: print("lost", flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""

honouring_conditions = pytest.mark.parametrize("store", ["file", "moto"], indirect=True)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(claim, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(claim, "STALE_SECONDS", STALE)


@pytest.fixture
def first(store):
    """Another process, which holds the claim until its input ends."""
    command = [sys.executable, "-c", HOLDER, store.uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def take(store, holder, on_lost=lambda: None):
    return claimed(store, "run/step", holder=holder, on_lost=on_lost)


def seconds_to_take(store, holder):
    started = time.monotonic()
    with take(store, holder):
        return time.monotonic() - started


@pytest.fixture
def patient(monkeypatch):
    """From when it is called."""
    return lambda: monkeypatch.setattr(claim, "STALE_SECONDS", ALIVE)


@honouring_conditions
def test_a_living_holder_keeps_others_out_until_it_is_done(store, first, patient):
    patient()
    with pytest.raises(LaunchError, match=r"run/step in .*: first is running this since 20.* UTC"):
        seconds_to_take(store, "second")
    first.communicate("")
    assert seconds_to_take(store, "second") < ALIVE
    assert len(list(store.list("run/step/"))) == 1


@honouring_conditions
def test_a_killed_holder_is_waited_for_unless_it_is_oneself(store, first, capsys, patient):
    first.kill()
    assert seconds_to_take(store, "second") > STALE
    assert "run/step is held by first since 20" in capsys.readouterr().out
    (key,) = (info.key for info in store.list())
    store.put(key, b'{"holder": "third", "since": "", "token": "1"}')
    patient()
    assert seconds_to_take(store, "third") < ALIVE


@honouring_conditions
@pytest.mark.parametrize("content", [b"", b'{"who": 1}', b"\xff"])
def test_a_damaged_claim_is_waited_for_like_any_other(store, content):
    store.put("run/step/000001.json", content)
    store.put("run/step/notes.json", b"no claim")
    assert seconds_to_take(store, "second") > STALE


@honouring_conditions
def test_a_living_holder_mends_its_damaged_claim(store, first, patient):
    patient()
    (key,) = (info.key for info in store.list())
    store.put(key, b"{")
    with pytest.raises(LaunchError, match="is running this"), take(store, "second"):
        pass


@honouring_conditions
def test_a_frozen_holder_learns_that_it_was_replaced(store, first, patient):
    first.send_signal(signal.SIGSTOP)
    with take(store, "second"):
        first.send_signal(signal.SIGCONT)
        assert first.stdout.readline() == "lost\n"
        first.communicate("")
        patient()
        with pytest.raises(LaunchError, match="second is running this"):
            seconds_to_take(store, "third")


@honouring_conditions
def test_of_many_that_wait_for_a_dead_holder_one_wins(store, first, patient):
    first.kill()
    done = threading.Event()

    def attempt(index):
        try:
            with take(store, f"taker {index}"):
                patient()
                done.wait()
                return "won"
        except LaunchError:
            return "refused"

    with ThreadPoolExecutor(6) as pool:
        attempts = [pool.submit(attempt, index) for index in range(6)]
        while sum(one.done() for one in attempts) < 5:
            time.sleep(0.05)
        done.set()
    assert sorted(one.result() for one in attempts) == ["refused"] * 5 + ["won"]


def test_a_number_won_late_does_not_count():
    """Seen 1 as dead; before its own put of 2, others have made 2 and 3 and cleared 2 away."""
    objects = {"run/step/000003.json": b'{"holder": "third", "since": "", "token": ""}'}
    listings = iter([["run/step/000001.json"]])

    def get(key):
        return objects.get(key, b'{"holder": "first", "since": "", "token": ""}')

    def put_if_absent(key, data):
        return objects.setdefault(key, data) is data

    store = SimpleNamespace(
        conditional_put=True,
        list=lambda prefix: [SimpleNamespace(key=key) for key in next(listings, objects)],
        get=get,
        put=objects.__setitem__,
        put_if_absent=put_if_absent,
        delete=objects.pop,
    )
    with take(store, "late"):
        assert b"late" in objects["run/step/000004.json"]
        assert "run/step/000003.json" not in objects


@pytest.mark.parametrize("store", ["rclone"], indirect=True)
def test_a_server_that_ignores_conditions_is_named_at_the_start(store, caplog):
    with take(store, "first"), take(store, "second"):
        assert "ignores conditions on writes: nothing keeps two machines from run/step at once" in caplog.text
    assert list(store.list()) == []
