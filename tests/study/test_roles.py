"""Influence weights by role: responses written by hand, recorded as training records them."""

import math
import re
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score, TokenTrace
from fipo.config import load_config
from fipo.models import load_tokenizer
from fipo.rollout.record import record_table, store_record
from fipo.rollout.texts import TokenTexts
from fipo.run.run import Run
from fipo.study.credit import role_figure
from fipo.study.results import Result
from fipo.study.roles import credit_of, credits_of, over_steps, tokens_in_role
from fipo.study.study import Study, Trial, load_study

STUDIES = Path(__file__).parents[2] / "studies"
ROLES = load_study(STUDIES / "search.yaml").roles


def roles(prompt, *words):
    """The words of each role, as the tokenizer of `demo-search` cuts them."""
    response, characters = " ".join(words), [len(words[0]), *(len(word) + 1 for word in words[1:])]
    return {
        role: [words[index] for index in tokens_in_role(prompt, response, characters, re.compile(pattern))]
        for role, pattern in ROLES.items()
    }


def test_roles_of_a_search():
    trials = ["4", "u11", "v2", "13", "u0", "v7"]
    found = roles("s6 v7 :", *trials, "\\boxed{", "13", "}", "<end>")
    assert found == {"trial": trials, "give-up": [], "answer": ["\\boxed{", "13", "}", "<end>"]}
    found = roles("s6 v9 :", *trials, "\\boxed{", "5", "}", "<end>")
    assert found == {"trial": trials, "give-up": ["\\boxed{"], "answer": ["5", "}", "<end>"]}
    assert roles("s6 v1 :", "4", "u1", "v12", "\\boxed{", "4", "}", "<end>")["give-up"] == ["\\boxed{"], "v1 is not v12"
    assert roles("s6 v9 :", *trials, "13")["trial"] == trials, "a trial that the limit cut is none"


@given(st.text("ab ", max_size=30), st.data())
def test_a_token_has_the_role_that_any_match_overlaps(response, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(response)), max_size=12)))
    lengths = [after - before for before, after in pairwise([0, *cuts, len(response)])]
    for text in ("a+", "ab", "b*", r"(?=(?P<role>a.{0,5}))", r"(?P<role>a)?b"):
        pattern = re.compile(text)
        group = "role" if "role" in pattern.groupindex else 0
        spans = [match.span(group) for match in pattern.finditer(f"p\n{response}")]
        ends = accumulate(lengths, initial=2)
        brute = [
            index
            for index, (start, end) in enumerate(pairwise(ends))
            if any(start < last and first < end for first, last in spans)
        ]
        assert list(tokens_in_role("p", response, lengths, pattern)) == brute


def test_credit_by_hand(tmp_path):
    """Two responses, one better and one worse than the other, in two steps."""
    config = load_config("demo-search", [f"run.directory={tmp_path}"])
    tokenizer, run = load_tokenizer(config.model), Run(config)
    prompt = Prompt("p", "s6 v7 :", tuple(tokenizer("s6 v7 :").input_ids), "13")
    texts = ["13 u0 v7 \\boxed{ 13 } <end>", "4 u11 v2 \\boxed{ 5 } <end>"]
    tokens = [np.array(tokenizer(text).input_ids, np.int32) for text in texts]
    rollouts = tuple(Rollout(ids, np.zeros(7, np.float32), FinishReason.STOP, 0) for ids in tokens)
    scores = tuple(Score(outcome, right, right) for outcome, right in ((Outcome.CORRECT, 1.0), (Outcome.WRONG, 0.0)))
    group = RolloutGroup(prompt, rollouts, scores, (0.5, -1.0))
    for step, low in ((1, 1.0), (2, 0.8)):
        weights = ([1.2, 1.2, 1.2, 1, 1, 1, 1], [1, 1, 1, low, 1, 1, 1])
        zeros = np.zeros(7, np.float16)
        traces = {
            one.key: TokenTrace(1, np.array(f, np.float16), zeros, zeros, zeros, zeros)
            for one, f in zip(group.samples, weights, strict=True)
        }
        table = record_table(step, [group], traces, TokenTexts(tokenizer))
        store_record(table, run.results.store, f"{config.run.name}/train/rollouts/0123456789ab", step)
    found = {role: over_steps(credit) for role, credit in credits_of(run, ROLES).items()}
    # Three tokens of each response are a trial; (3 * 0.5 * 1.2 - 3 * 1) / 6 = -0.2.
    expected = {
        "tokens": 12,
        "right": 0.5,
        "wrong": 0.5,
        "weight_right": 1.2,
        "weight_wrong": 1,
        "advantage": -0.25,
        "weighted": -0.2,
    }
    assert found["trial"] == pytest.approx(expected, rel=1e-3)
    give_up = found["give-up"]
    assert (give_up["tokens"], give_up["wrong"], give_up["advantage"]) == (2, 1, -1)
    assert (give_up["weight_wrong"], give_up["weighted"]) == pytest.approx((0.9, -0.9), rel=1e-3)
    assert np.isnan(give_up["weight_right"])


def test_what_an_environment_says_has_no_credit():
    """Two words of the policy and one of the environment, whose weight the record holds as NaN."""
    row = {"prompt": "p", "response": "abc", "token_characters": [1, 1, 1], "influence_weights": [1.2, math.nan, 0.8]}
    rows = [row | {"advantage": 1.0}, row | {"advantage": 0.0}]
    found = credit_of(rows, re.compile("[abc]"))
    assert found["tokens"] == 4.0
    assert (found["right"], found["wrong"]) == (0.5, 0.0), "neither better nor worse is no third kind of right"
    assert (found["weight_right"], found["weighted"]) == (1.0, 0.5)


def test_the_figure_has_a_line_of_means_for_each_arm_and_role():
    """Two seeds, the one's run a step longer; in the second step only one of them gave up."""
    study = Study(
        name="s", tasks={"t": {"recipe": "demo"}}, arms={"dapo": (), "fipo": ()}, baseline="dapo", seeds=(1, 2),
        roles={"give-up": "x"},
    )  # fmt: skip

    def result(arm, seed, *weights):
        credit = {"give-up": {"weight_right": np.ones(len(weights)), "weight_wrong": np.array(weights)}}
        return Result(Trial(study, "t", arm, seed), {}, np.array([]), {}, credit)

    nan = float("nan")
    results = [result("fipo", 1, 0.9, nan, 0.5), result("fipo", 2, 0.7, 0.8), result("dapo", 1, nan, nan)]
    better, worse = role_figure(study, results).axes
    assert tuple(ax.get_title("left") for ax in (better, worse)) == ("give-up: f where A > 0", "give-up: f where A < 0")
    dapo, fipo, one = worse.get_lines()
    assert (dapo.get_label(), fipo.get_label()) == ("dapo", "fipo") and np.array_equal(one.get_ydata(), [1.0, 1.0])
    assert np.array_equal(fipo.get_xdata(), [1, 2]) and np.allclose(fipo.get_ydata(), [0.8, 0.8])
    assert np.isnan(np.asarray(dapo.get_ydata())).all()
