"""The attacks of docs/verifier.md: none is graded correct, and none keeps the verifier busy."""

import re
import time
from pathlib import Path

import pytest

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.math import verify

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verifier.md"
ATTACKS = re.findall(r"^(\S.*) ⇏ (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

UNSEEN = [
    ("\\boxed{5\u043e}", "50"),  # a Cyrillic o
    ("\\boxed{\u0406}", "1"),  # a Cyrillic I
    ("\\boxed{\u0410}", "A"),  # a Cyrillic A
    ("\\boxed{\u0445+1}", "x+1"),  # a Cyrillic x
    ("\\boxed{\U0001d7d3}", "6"),  # a bold five
    ("\\boxed{\u0665}", "6"),  # an Arabic five
    ("\\boxed{\u4e8c}", "3"),  # a Chinese two
    ("\\boxed{\u00b9\u00b2}", "12"),  # raised digits
    ("\\boxed{\u2085}", "5"),  # a lowered five
    ("\\boxed{\u00bd5}", "5"),
    ("\\boxed{\u202e51\u202c}", "15"),  # written from right to left
    ("\\boxed{\u206651\u2069}", "15"),
    ("\\boxed{\u200f12}", "21"),
    ("\\boxed{\u061c12}", "21"),
    ("\\boxed{5\u0336}", "5"),  # struck out
    ("\\boxed{5\u20e0}", "5"),  # a prohibition sign over it
    ("\\boxed{1\u0305}", "-1"),
    ("\\boxed{x \u0338= 5}", "5"),  # not equal, combined
    ("\\boxed{x =\u0338 5}", "x=5"),
    ("\\boxed{1\u200d2}", "1"),  # joined
    ("\\boxed{5\u200b.\u200b0\u200b1}", "5"),
    ("\\boxed{no\u200dt 5}", "5"),
    ("\\boxed{5\x00}", "50"),
]
"""What does not show on a page."""


def test_there_are_enough():
    assert len(ATTACKS) >= 350


@pytest.mark.parametrize(("response", "answer"), [*ATTACKS, *UNSEEN])
def test_no_attack_is_graded_correct(response, answer):
    start = time.process_time()
    try:
        outcome = verify(response.replace("⏎", "\n"), answer)
    except RewardError:  # such a reference is quarantined
        return
    assert outcome in (Outcome.WRONG, Outcome.UNPARSED)
    # A response that times out is masked: that must not be to be had by asking for a long computation.
    assert time.process_time() - start < 2
