"""The pairs of docs/verifier.md: equal ones and unequal ones."""

import re
from pathlib import Path

import pytest

from fipo.outcome import Outcome
from fipo.rewards.math import verify

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verifier.md"
PAIRS = re.findall(r"^(\S.*) ([≡≢]) (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_table_is_large_enough():
    assert len(PAIRS) >= 150


@pytest.mark.parametrize(("answer", "relation", "reference"), PAIRS)
def test_pairs_are_judged_as_listed(answer, relation, reference):
    equal = verify(rf"So it is \boxed{{{answer}}}.", reference) is Outcome.CORRECT
    assert equal == (relation == "≡")
