"""Which rows go into which micro-batch on which rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def plan_micro_batches(
    lengths: Sequence[int], *, ranks: int, max_tokens: int, attention_parity: float = math.inf
) -> list[list[list[int]]]:
    """Pack rows into micro-batches of at most `max_tokens`, equally many on every rank and of similar cost.

    A row costs `length + length^2 / attention_parity`: its linear layers and its attention. The longest row comes first
    and goes where there is room and least to do.

    Args:
        lengths: tokens of each row.
        ranks: how many ranks share the rows.
        max_tokens: bound on the tokens of a micro-batch; a single longer row still makes one.
        attention_parity: tokens of a row whose attention costs as much as its linear layers.

    Returns:
        `plan[rank][micro]`: indices of rows, long ones first. Micro-batches of the same index are close in cost on all
        ranks. One may be empty when there are fewer rows than ranks: the rank must still take part in the step.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    costs = [_cost(length, attention_parity) for length in lengths]
    count = ranks * max(1, math.ceil(sum(lengths) / (ranks * max_tokens)))
    while (filled := _fill(order, lengths, costs, count, max_tokens)) is None:
        count += ranks
    by_cost = sorted(filled, key=lambda rows: -sum(costs[row] for row in rows))
    plan: list[list[list[int]]] = [[] for _ in range(ranks)]
    for start in range(0, count, ranks):
        # The rank that has had least to do so far takes the costliest.
        load = [sum(costs[row] for rows in micro_batches for row in rows) for micro_batches in plan]
        for rank, rows in zip(sorted(range(ranks), key=lambda rank: (load[rank], rank)), by_cost[start:]):
            plan[rank].append(rows)
    return plan


def work_of(plan: Sequence[Sequence[Sequence[int]]], lengths: Sequence[int], parity: float) -> list[list[float]]:
    """What each rank's micro-batch costs, by index: the ranks wait for the costliest of each.

    Args:
        plan: of `plan_micro_batches`.
        lengths: tokens of each row.
        parity: tokens of a row whose attention costs as much as its linear layers.
    """
    costs = [_cost(length, parity) for length in lengths]
    return [[sum(costs[row] for row in rows) for rows in ranks] for ranks in zip(*plan, strict=True)]


def idle_fraction(work: Iterable[Sequence[float]]) -> float:
    """Share of their time in which ranks, on the mean, wait for the slowest of them.

    Args:
        work: what each rank had to do, in any unit, before each time that all waited for the slowest.
    """
    rows = list(work)
    slowest = sum(map(max, rows))
    return 1.0 - sum(sum(row) / len(row) for row in rows) / slowest if slowest else 0.0


def _cost(length: int, parity: float) -> float:
    return length + length * length / parity


def _fill(
    order: Sequence[int], lengths: Sequence[int], costs: Sequence[float], count: int, max_tokens: int
) -> list[list[int]] | None:
    """Rows of each of `count` micro-batches, or None where they do not fit."""
    rows: list[list[int]] = [[] for _ in range(count)]
    tokens, load = [0] * count, [0.0] * count
    for row in order:
        fits = [index for index in range(count) if not rows[index] or tokens[index] + lengths[row] <= max_tokens]
        if not fits:
            return None
        index = min(fits, key=lambda index: load[index])
        rows[index].append(row)
        tokens[index] += lengths[row]
        load[index] += costs[row]
    return rows
