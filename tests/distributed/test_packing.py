from hypothesis import given
from hypothesis import strategies as st

from fipo.distributed.packing import plan_micro_batches


def test_rows_of_similar_length_share_a_micro_batch():
    assert plan_micro_batches([9, 2, 8, 3], ranks=1, max_tokens=18) == [[[1, 3], [2, 0]]]


def test_ranks_get_equally_many():
    assert plan_micro_batches([4, 4, 4], ranks=2, max_tokens=100) == [[[0]], [[1, 2]]]


def test_a_rank_without_rows_still_takes_part():
    plan = plan_micro_batches([5], ranks=2, max_tokens=100)
    assert sorted(len(micro) for rank in plan for micro in rank) == [0, 1]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 200),
)
def test_every_row_is_there_once_and_the_budget_holds(lengths, ranks, max_tokens):
    plan = plan_micro_batches(lengths, ranks=ranks, max_tokens=max_tokens)
    assert len(plan) == ranks
    assert len({len(micro_batches) for micro_batches in plan}) == 1
    assert sorted(row for rank in plan for micro in rank for row in micro) == list(range(len(lengths)))
    for micro in (micro for rank in plan for micro in rank if len(micro) > 1):
        assert max(lengths[row] for row in micro) * len(micro) <= max_tokens
