"""Parts of a piece of work that ranks take one after the other: a slow rank takes fewer."""

from __future__ import annotations

from collections.abc import Iterator

from fipo.distributed.bootstrap import World


def taken(world: World, parts: int) -> Iterator[int]:
    """The parts that this rank does, each as it takes it. All ranks must call it alike, and each to its end.

    The first is the one of the rank's own number: where there is one for each, nothing depends on time. Of the others
    each goes to whoever asks first; what a part is, and so what comes of it, does not depend on who does it.

    Args:
        world: the ranks.
        parts: how many there are, at least one for each rank.
    """
    queue = world.queue() if parts > world.size else None
    yield world.rank
    while queue and (part := world.size + queue()) < parts:
        yield part
