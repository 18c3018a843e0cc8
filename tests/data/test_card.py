from collections import Counter

import numpy as np
import pytest
from matplotlib.image import imread

from fipo.data.card import quantile


@pytest.mark.parametrize(("share", "expected"), [(0.0, 3), (0.25, 3), (0.5, 5), (0.75, 5), (0.76, 9), (1.0, 9)])
def test_quantiles_of_counts(share, expected):
    # 3, 5, 5, 9
    assert quantile(Counter({9: 1, 3: 1, 5: 2}), share) == expected


def test_quantile_of_nothing():
    assert quantile(Counter(), 0.5) == 0


def test_card_tells_what_became_of_the_rows(configure, run):
    rows = [{"prompt": f"Say {'very ' * n}much", "answer": "1"} for n in range(20)]
    prepared = run(configure([*rows, rows[0], b"broken\n"], max_prompt_tokens=20, near_duplicate_jaccard=None))
    card = (prepared.folder / "data-card.md").read_text()
    # Prompts of 2 to 20 tokens; the one of 21 is too long.
    assert "| train.parquet | 19 | 11 | 20 | 20 | `" in card
    assert "/train.jsonl | 22 | 19 | 1 exact duplicate, 1 prompt too long | 1 not JSON |" in card
    assert "`train.parquet` begins with\n\n    prompt: Say much\n    answer: 1\n" in card
    assert "`validation.parquet` begins with" not in card


def test_examples_cannot_break_out_of_the_card(configure, run):
    prompt = "# no heading\n```\n<script>alert(1)</script> | $x_1$"
    prepared = run(configure([{"prompt": prompt, "answer": "1", "source": "a|b $c_1$"}]))
    card = (prepared.folder / "data-card.md").read_text()
    assert "    prompt: # no heading\n    ```\n    <script>alert(1)</script> | $x_1$\n" in card


def test_figure_is_drawn(configure, run):
    prepared = run(configure([{"prompt": f"{n} ?", "answer": "1"} for n in range(3)]))
    picture = imread(prepared.folder / "data-card.png")
    # Both bars are whole and in the colour of what is kept.
    indigo = np.array([0x4F, 0x46, 0xE5]) / 255
    assert np.isclose(picture[..., :3], indigo, atol=0.01).all(axis=-1).mean() > 0.05
