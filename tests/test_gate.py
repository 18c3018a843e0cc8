import pytest

from fipo.config import Gate
from fipo.gate import decide


@pytest.mark.parametrize(
    ("value", "champion", "passed", "words"),
    [
        (0.95, None, True, "no champion"),
        (0.85, None, False, "below the minimum of 0.9000"),
        (0.95, 0.94, True, "beats the champion's 0.9400"),
        (0.95, 0.95, False, "does not beat the champion's 0.9500"),
        (0.85, 0.80, False, "below the minimum"),
    ],
)
def test_a_model_must_reach_the_minimum_and_beat_the_champion(value, champion, passed, words):
    decision = decide(Gate(minimum=0.9), "aime-2024", value=value, champion=champion)
    assert decision.passed is passed
    assert words in decision.reason
    assert "avg_at_k on aime-2024" in decision.reason
