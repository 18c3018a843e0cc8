import math

from hypothesis import given
from hypothesis import strategies as st

from fipo.distributed.packing import plan_micro_batches, work_of


def test_rows_fill_the_budget():
    assert plan_micro_batches([9, 2, 8, 3], ranks=1, max_tokens=11) == [[[0, 1], [2, 3]]]


def test_ranks_get_equally_many():
    plan = plan_micro_batches([4, 4, 4], ranks=2, max_tokens=8)
    assert sorted(sorted(len(rows) for rows in rank) for rank in plan) == [[1], [2]]


def test_a_rank_without_rows_still_takes_part():
    plan = plan_micro_batches([5], ranks=2, max_tokens=100)
    assert sorted(len(micro) for rank in plan for micro in rank) == [0, 1]


def test_attention_counts_in_the_balance():
    """With linear cost 100 + 60 against 80 + 80 tokens; with attention the long row stands alone."""
    lengths = [100, 20, 20, 20, 20, 20]
    [long], [others] = plan_micro_batches(lengths, ranks=2, max_tokens=1000, attention_parity=10)
    assert (long, sorted(others)) == ([0], [1, 2, 3, 4, 5])
    [long], [others] = plan_micro_batches(lengths, ranks=2, max_tokens=1000)
    assert sum(lengths[row] for row in long) - sum(lengths[row] for row in others) == 0


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 200),
    st.sampled_from([math.inf, 30.0]),
)
def test_every_row_is_there_once_and_the_budget_holds(lengths, ranks, max_tokens, attention_parity):
    plan = plan_micro_batches(lengths, ranks=ranks, max_tokens=max_tokens, attention_parity=attention_parity)
    assert len(plan) == ranks
    assert len({len(micro_batches) for micro_batches in plan}) == 1
    assert sorted(row for rank in plan for micro in rank for row in micro) == list(range(len(lengths)))
    for micro in (micro for rank in plan for micro in rank if len(micro) > 1):
        assert sum(lengths[row] for row in micro) <= max_tokens


def test_work_is_counted_by_micro_batch():
    """Of 4 and 2 tokens beside 3: 4 + 16 / 8 = 6, 2 + 4 / 8 = 2.5; a rank without a row has nothing to do."""
    assert work_of([[[0], [1]], [[2], []]], [4, 2, 3], 8.0) == [[6.0, 4.125], [2.5, 0]]
