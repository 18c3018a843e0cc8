"""One holder at a time of some work in an object store, over all machines that share the store.

A claim is a numbered object, made with a conditional put: of those that try to take the next number one wins. Its
holder renews it; a claim that nobody renews belongs to the dead, and the next number may be taken. Every machine
measures silence by its own clock, so no two clocks are compared.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from fipo.errors import LaunchError, ObjectNotFound, StorageError
from fipo.storage.store import ObjectStore
from fipo.waits import Wait

RENEW_SECONDS = 15.0
STALE_SECONDS = 60.0
"""Without renewal for so long, a holder is taken for dead."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    holder: str
    since: str
    """Date and time, for people."""
    token: str = ""
    """New with every renewal; empty once released."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> _Claim:
        """A damaged one is somebody's: who lives writes it anew, and who does not is found out as with any other."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return cls("a process whose claim is damaged", "some time", token=data.hex() or "empty")

    def renewed(self) -> _Claim:
        return replace(self, token=uuid.uuid4().hex)


@contextmanager
def claimed(store: ObjectStore, prefix: str, *, holder: str, on_lost: Callable[[], None]) -> Iterator[None]:
    """Hold the work that `prefix` names, in the block.

    A server without conditional puts cannot tell who was first: then this warns, and holds nothing.

    Args:
        store: where all who may want the work look.
        prefix: of the claim's objects.
        holder: who takes it, for people. A claim of the same name is taken over at once, so the caller must have made
            sure that no other process of this name lives.
        on_lost: called in another thread when somebody else took the claim over, because this process, or its way to
            the store, had been frozen for `STALE_SECONDS`.

    Raises:
        LaunchError: somebody else holds it, and is alive. To find out takes `STALE_SECONDS` at most.
    """
    if not store.conditional_put:
        _log.warning("%s ignores conditions on writes: nothing keeps two machines from %s at once", store.uri, prefix)
        yield
        return
    claim = _Claim(holder, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC").renewed()
    number = _take(store, prefix, claim)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, prefix, number, claim, ended, on_lost), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        with suppress(StorageError):  # then the next one waits until it is stale
            store.put(_key(prefix, number), replace(claim, token="").to_json())


def release(store: ObjectStore, prefix: str, *, holder: str) -> bool:
    """Whether there is a claim that this holder has not released: then it is released now.

    The caller has made sure that no other process of this name lives.
    """
    number = _newest(store, prefix)
    with suppress(ObjectNotFound):  # another one took it over meanwhile
        if number and (claim := _Claim.from_json(store.get(_key(prefix, number)))).token and claim.holder == holder:
            store.put(_key(prefix, number), replace(claim, token="").to_json())
            return True
    return False


def _take(store: ObjectStore, prefix: str, claim: _Claim) -> int:
    while True:
        newest = _newest(store, prefix)
        if not _is_free(store, prefix, newest, claim.holder):
            continue
        taken = store.put_if_absent(_key(prefix, newest + 1), claim.to_json())
        # A late taker may win a number that a later holder has cleared away.
        if taken and _newest(store, prefix) == newest + 1:
            if newest:
                store.delete(_key(prefix, newest))
            return newest + 1


def _is_free(store: ObjectStore, prefix: str, number: int, holder: str) -> bool:
    """Whether the claim is released, or its holder this one or dead; False if somebody took it over meanwhile."""
    wait, seen = Wait("a sign of life of its holder", STALE_SECONDS), None
    while number:
        try:
            claim = _Claim.from_json(store.get(_key(prefix, number)))
        except ObjectNotFound:
            return False
        if not claim.token or claim.holder == holder:
            return True
        if seen and claim.token != seen.token:
            raise LaunchError(
                f"{prefix} in {store.uri}: {claim.holder} is running this since {claim.since}: "
                "wait for it, stop it there, or take another run.name"
            )
        if not seen:
            print(f"{prefix} is held by {claim.holder} since {claim.since}: {wait}", flush=True)
            seen = claim
        if wait.over:
            return True
        time.sleep(RENEW_SECONDS / 10)
    return True


def _renew(
    store: ObjectStore,
    prefix: str,
    number: int,
    claim: _Claim,
    ended: threading.Event,
    on_lost: Callable[[], None],
) -> None:
    while not ended.wait(RENEW_SECONDS):
        with suppress(StorageError):  # an outage: whoever could take the claim cannot reach the store either
            if _newest(store, prefix) > number:
                _log.error(
                    "%s in %s: another machine took this over, as nothing was heard from here", prefix, store.uri
                )
                on_lost()
                return
            store.put(_key(prefix, number), claim.renewed().to_json())


def _newest(store: ObjectStore, prefix: str) -> int:
    """Number of the newest claim; 0 if there is none."""
    names = (info.key.rpartition("/")[2].removesuffix(".json") for info in store.list(f"{prefix}/"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _key(prefix: str, number: int) -> str:
    return f"{prefix}/{number:06}.json"
