import numpy as np
import torch

from fipo.training.rows import Row, pad_rows, spread


def test_rows_are_padded_on_the_right_and_masked():
    padded = pad_rows([Row([5, 6], np.array([7])), Row([8], np.array([9, 10, 11]))], pad_token_id=0)
    assert padded.input_ids.tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]]
    assert padded.attention_mask.tolist() == [[True, True, True, False], [True] * 4]
    assert padded.response_mask.tolist() == [[False, False, True, False], [False, True, True, True]]


def test_no_rows_make_a_row_that_teaches_nothing():
    padded = pad_rows([], pad_token_id=3)
    assert padded.input_ids.tolist() == [[3, 3]]
    assert padded.attention_mask.any()
    assert not padded.response_mask.any()


def test_spread_writes_values_where_the_mask_is():
    mask = torch.tensor([[False, True, True], [False, False, True]])
    assert spread([0.5, np.array([2.0], np.float32)], mask).tolist() == [[0.0, 0.5, 0.5], [0.0, 0.0, 2.0]]
