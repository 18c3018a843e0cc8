import numpy as np
import torch

from fipo.training.rows import Row, pack_rows, spread

ROWS = [Row([5, 6], np.array([7])), Row([8], np.array([9, 10, 11]))]


def test_rows_follow_each_other_and_ask_for_what_comes_next():
    packed = pack_rows(ROWS, pad_token_id=0)
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    wanted = packed.targets.where(packed.response_mask, -1)
    assert wanted.tolist() == [[-1, 7, -1, 9, 10, 11, -1]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert packed.segment_ids.tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    assert packed.lengths == (3, 4)


def test_padding_is_a_sequence_of_its_own():
    packed = pack_rows(ROWS, pad_token_id=0, multiple_of=4)
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11, 0]]
    assert packed.lengths == (3, 4, 1)
    assert packed.response_mask.sum() == 4
    halves = [packed.shard(index, 2) for index in range(2)]
    assert [half.input_ids.tolist() for half in halves] == [[[5, 6, 7, 8]], [[9, 10, 11, 0]]]
    assert halves[1].lengths == packed.lengths


def test_no_rows_make_a_row_that_teaches_nothing():
    packed = pack_rows([], pad_token_id=3, multiple_of=2)
    assert packed.input_ids.tolist() == [[3, 3]]
    assert packed.lengths == (2,)
    assert not packed.response_mask.any()


def test_spread_writes_values_where_the_response_is():
    packed = pack_rows(ROWS, pad_token_id=0, multiple_of=4)
    values = spread([0.5, np.array([2.0, 3.0, 4.0], np.float32)], packed)
    assert torch.equal(values, torch.tensor([[0.0, 0.5, 0.0, 2.0, 3.0, 4.0, 0.0, 0.0]]))


def test_observations_are_read_and_not_asked_for():
    rows = [Row([5, 6], np.array([7, 8, 9, 10]), np.array([True, False, False, True])), ROWS[1]]
    packed = pack_rows(rows, pad_token_id=0)
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 8, 9, 10, 11]]
    wanted = packed.targets.where(packed.response_mask, -1)
    assert wanted.tolist() == [[-1, 7, -1, -1, 10, -1, 9, 10, 11, -1]]
    values = spread([np.array([2.0, 3.0], np.float32), 0.5], packed)
    assert values.tolist() == [[0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.5, 0.5, 0.5, 0.0]]
    assert packed.have_observations and packed.shard(0, 2).have_observations
    assert not pack_rows(ROWS, pad_token_id=0).have_observations
