import re

import pytest

from fipo.config import RunningSums
from fipo.data.running_sums import generate
from fipo.errors import DataError

ANSWER = re.compile(r"^(?P<sums>[\d ]*)\\boxed\{ (?P<answer>\d) \}$")


def digits_of(row):
    return [int(digit) for digit in row["prompt"].partition(" : ")[2].split()]


def test_worked_responses_write_every_running_sum():
    for row in generate(RunningSums(seed=5, worked=1.0, partly=0.0), 200):
        digits, match = digits_of(row), ANSWER.match(row["response"])
        expected = [sum(digits[: index + 1]) % 5 for index in range(8)]
        assert row["prompt"].startswith("Add modulo 5 : ")
        assert match and len(digits) == 8 and set(digits) <= {0, 1, 2, 3, 4}
        assert [int(number) for number in match["sums"].split()] == expected
        assert match["answer"] == row["answer"] == str(expected[-1])


def test_depth_of_the_demonstrations_follows_the_shares():
    rows = list(generate(RunningSums(seed=5, worked=0.4, partly=0.2), 10_000))
    shown = [len(match["sums"].split()) for row in rows if (match := ANSWER.match(row["response"]))]
    assert len(shown) == len(rows)
    # Binomial with n = 10,000: three standard deviations are 0.015.
    assert shown.count(8) / 10_000 == pytest.approx(0.4, abs=0.015)
    assert shown.count(4) / 10_000 == pytest.approx(0.2, abs=0.015)
    assert shown.count(0) / 10_000 == pytest.approx(0.4, abs=0.015)


def test_prompts_are_distinct_up_to_the_last_possible_one():
    prompts = {row["prompt"] for row in generate(RunningSums(digits=4, modulus=3), 81)}
    assert len(prompts) == 81


def test_more_problems_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"limit: 2 digits below 3 make 9 different problems; 10 were asked for"):
        list(generate(RunningSums(digits=2, modulus=3), 10))


def test_the_seed_decides():
    def prompts(seed):
        return [row["prompt"] for row in generate(RunningSums(seed=seed), 50)]

    assert prompts(1) == prompts(1)
    assert set(prompts(1)).isdisjoint(prompts(2))
