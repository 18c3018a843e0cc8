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


def test_there_are_enough():
    assert len(ATTACKS) >= 200


@pytest.mark.parametrize(("response", "answer"), ATTACKS)
def test_no_attack_is_graded_correct(response, answer):
    start = time.process_time()
    try:
        outcome = verify(response.replace("⏎", "\n"), answer)
    except RewardError:  # such a reference is quarantined
        return
    assert outcome in (Outcome.WRONG, Outcome.UNPARSED)
    # A response that times out is masked: that must not be to be had by asking for a long computation.
    assert time.process_time() - start < 2
