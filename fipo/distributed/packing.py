"""Which rows go into which micro-batch on which rank."""

from __future__ import annotations

from collections.abc import Sequence


def plan_micro_batches(lengths: Sequence[int], *, ranks: int, max_tokens: int) -> list[list[list[int]]]:
    """Group rows of similar length, so that little is padding, with equally many micro-batches on every rank.

    Args:
        lengths: tokens of each row.
        ranks: how many ranks share the rows.
        max_tokens: bound on rows x longest row of one micro-batch; a single longer row still makes one.

    Returns:
        `plan[rank][micro]`: indices of rows. Micro-batches of the same index have similar cost on all ranks. One may be
        empty when there are fewer rows than ranks: the rank must still take part in the step.
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    chunks: list[list[int]] = []
    for row in order:
        # Rows come in ascending length, so the newest is the longest of its chunk.
        if chunks and lengths[row] * (len(chunks[-1]) + 1) <= max_tokens:
            chunks[-1].append(row)
        else:
            chunks.append([row])
    while len(chunks) % ranks:
        widest = max(range(len(chunks)), key=lambda index: (len(chunks[index]), index))
        rows = chunks[widest]
        chunks[widest : widest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return [chunks[rank::ranks] for rank in range(ranks)]
