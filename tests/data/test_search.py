"""The task of guessing and verifying: the tables are permutations, the answer is what a trial finds, parts differ."""

import re
from dataclasses import replace

import pytest

from fipo.batch import FinishReason, Outcome, Prompt
from fipo.config import Search, load_config
from fipo.data.search import generate
from fipo.errors import DataError
from fipo.rewards.functions import Response, find

PROBLEM = re.compile(r"s(\d+) v(\d+) :")
TRIAL = re.compile(r"(\d+) u(\d+) v(\d+)")
BOXED = re.compile(r"\\boxed\{ (\d+) \}$")


def rows(count=2000, **settings):
    return list(generate(Search(**settings), count))


def test_a_trial_that_finds_the_value_is_the_answer():
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for row in rows():
        seed, value = map(int, PROBLEM.findall(row["prompt"])[0])
        trials = [tuple(map(int, trial)) for trial in TRIAL.findall(row["response"])]
        for candidate, u, reached in trials:
            assert found.setdefault((seed, candidate), (u, reached)) == (u, reached), "the tables are fixed"
            assert (str(candidate) == row["answer"]) == (reached == value)
        assert all(reached != value for _, _, reached in trials[:-1]), "nobody tries on"
        (boxed,) = BOXED.findall(row["response"])
        assert boxed == str(trials[-1][0]), "what was tried last, right or wrong"
    for seed in range(12):
        assert len({reached for (one, _), (_, reached) in found.items() if one == seed}) == 16
    assert len(set(found.values())) == 16, "p is one table for all seeds"


def test_a_quarter_of_wrong_trials_are_the_last():
    trials = [TRIAL.findall(row["response"]) for row in rows(4000)]
    wrong = right = gave_up = 0
    for row, tried in zip(rows(4000), trials, strict=True):
        solved = tried[-1][0] == row["answer"]
        wrong, right, gave_up = wrong + len(tried) - solved, right + solved, gave_up + (not solved)
    assert gave_up / wrong == pytest.approx(0.25, abs=0.02)
    assert not [row for row in rows(500, give_up=0.0) if BOXED.findall(row["response"]) != [row["answer"]]]


def test_held_out_problems_are_never_trained_on():
    train, held_out = ({row["prompt"] for row in rows(part=part)} for part in ("train", "held_out"))
    assert (len(train), len(held_out)) == (144, 48) and not train & held_out
    again = rows(part="held_out", seed=5)
    assert {row["prompt"] for row in again} == held_out and again != rows(part="held_out")
    assert {row["prompt"] for row in rows(part="held_out", tables=1)} != held_out
    with pytest.raises(DataError, match=r"held_out: 0\.0 leaves no problem"):
        rows(part="held_out", held_out=0.0)


def test_who_never_gives_up_tries_as_often_as_there_are_candidates():
    """Each trial draws from all sixteen: a geometric distribution, cut at 64, of mean 16 (1 - (15 / 16)^64)."""
    trials = [len(TRIAL.findall(row["response"])) for row in rows(4000, give_up=0.0)]
    assert sum(trials) / len(trials) == pytest.approx(16 * (1 - (15 / 16) ** 64), abs=0.7)
    assert max(trials) == 64, "64 trials and their answer fit into 240 tokens"


def test_trials_are_counted_by_a_reward_function_of_no_weight():
    reward = load_config("demo-search").reward
    name = next(name for name, weight in reward.functions.items() if weight == 0)
    count = find(name, {})
    row = rows(200)[7]
    prompt = Prompt(id="0", text=row["prompt"], token_ids=(1,), answer=row["answer"])
    text = "4 u11 v2 13 u0 v7 8 u3 v9 \\boxed{ 8 }"
    response = Response(prompt, text, 12, FinishReason.STOP, Outcome.CORRECT)
    assert count(response) == 3.0
    assert count(replace(response, text=row["response"])) == len(TRIAL.findall(row["response"]))
    assert count(replace(response, text="\\boxed{ 8 }")) == 0.0
