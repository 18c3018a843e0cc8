"""Parts of a piece of work that ranks take one after the other: a slow rank takes fewer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from fipo.distributed.bootstrap import World


def taken(world: World, parts: int, together: int = 1) -> Iterator[int]:
    """The parts that this rank does, each as it takes it. All ranks must call it alike, and each to its end.

    The first is the one of the rank's own number: where there is one for each, nothing depends on time. Of the others
    each goes to whoever asks first; what a part is, and so what comes of it, does not depend on who does it.

    Args:
        world: the ranks.
        parts: how many there are, at least one for each who takes.
        together: neighbouring ranks that do each part together. One of them goes through the parts and tells the
            others, or there is one part for each who takes.
    """
    takers = world.size // together
    return _taken(world.rank // together, takers, parts, world.queue() if parts > takers else None)


def _taken(taker: int, takers: int, parts: int, queue: Callable[[], int] | None) -> Iterator[int]:
    yield taker
    while queue and (part := takers + queue()) < parts:
        yield part


def of_its_share(progress: Callable[[int, int], None], items: int, world: World) -> Callable[[int, int], None]:
    """Progress towards this rank's share of so many items, as if all were as fast: what it will take nobody knows."""
    share = math.ceil(items / world.size)
    return lambda done, _: progress(done, max(done, share))
