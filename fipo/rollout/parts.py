"""How the prompts of a batch are cut into parts, which ranks take one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def dealt(prompts: int, ranks: int) -> list[list[int]]:
    """One part for each rank, by places: the prompts in turn. A part may be empty."""
    return [list(range(rank, prompts, ranks)) for rank in range(ranks)]


def parts_for_each(prompts: int, group_size: int, rows: int, ranks: int) -> int:
    """Into how many parts a rank's share can be cut, so that others may take some, without a batch more.

    Args:
        prompts: of all ranks.
        group_size: responses to each.
        rows: responses that a batch holds, of which the longest decides how long it takes.
        ranks: that share the prompts.
    """
    if ranks == 1 or rows < 1:
        return 1

    def batches(parts: int) -> int:
        return parts * math.ceil(math.ceil(prompts / (ranks * parts)) * group_size / rows)

    return max((parts for parts in range(2, batches(1) + 1) if batches(parts) <= batches(1)), default=1)


def cut(order: Sequence[int], parts: int) -> list[list[int]]:
    """So many parts of equal size, up to one, that follow one another in `order`."""
    ends = [len(order) * part // parts for part in range(parts + 1)]
    return [list(order[start:end]) for start, end in pairwise(ends)]
