"""Reward functions of one's own: found, weighted, and named when they fail."""

import math
import signal

import numpy as np
import pytest

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup
from fipo.config import Architecture, Model, Reward
from fipo.errors import ConfigError, RewardError, StopRequested
from fipo.models import load_tokenizer
from fipo.rewards.functions import find
from fipo.rewards.scorer import Scorer

MODULE = """
import signal

import numpy as np

def brevity(response):
    return 1 / response.tokens

def polite(response):
    return "thanks" in response.text

def broken(response):
    raise ValueError("no luck")

def nothing(response):
    return float("nan")

def silent(response):
    return None

def of_numpy(response):
    return np.bool_(True)

def of_an_array(response):
    return np.array([0.5])

def interrupted(response):
    try:
        signal.raise_signal(signal.SIGUSR1)
    except Exception:  # as one's own code may well say
        pass
    return 1.0

def leaves(response):
    raise SystemExit(0)

async def later(response):
    return 1.0

def many(response):
    return np.ones(2)

number = 3
"""

TOKENIZER = load_tokenizer(Model(architecture=Architecture(vocabulary=("1", "2", r"\boxed{", "}", "thanks"))))


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """An installed package that offers `brevity` as an entry point."""
    (tmp_path / "my_rewards.py").write_text(MODULE)
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)")
    info = tmp_path / "my_rewards-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rewards\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fipo.rewards]\nbrevity = my_rewards:brevity\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def group(*texts):
    ids = [np.array(TOKENIZER(text)["input_ids"], dtype=np.int32) for text in texts]
    rollouts = tuple(Rollout(one, np.zeros(len(one), dtype=np.float32), FinishReason.STOP, 0) for one in ids)
    return RolloutGroup(Prompt("abc", "", (1,), "1"), rollouts)


def score(functions, *texts, **settings):
    reward = Reward(functions=functions, **settings)
    with Scorer(reward, max_response_tokens=8, tokenizer=TOKENIZER) as scorer:
        return scorer.score([group(*texts)])[0].scores


def test_the_reward_is_the_weighted_sum_and_the_parts_are_kept():
    functions = {"accuracy": 2.0, "overlong": 1.0, "brevity": 0.5, "my_rewards:polite": 0.0}
    right, wrong = score(functions, r"\boxed{ 1 } thanks", r"1 1 1 \boxed{ 2 }", overlong_buffer_tokens=4)
    assert right.components == {"accuracy": 1.0, "overlong": 0.0, "brevity": 0.25, "my_rewards:polite": 1.0}
    assert right.reward == 2.125 and right.accuracy == 1.0
    # Six tokens, two of the four of the buffer.
    assert wrong.components == {"accuracy": 0.0, "overlong": -0.5, "brevity": 1 / 6, "my_rewards:polite": 0.0}
    assert wrong.reward == pytest.approx(-0.5 + 1 / 12) and wrong.accuracy == 0.0


def test_one_number_of_numpy_is_a_number():
    (only,) = score({"my_rewards:of_numpy": 1.0, "my_rewards:of_an_array": 1.0}, r"\boxed{ 1 }")
    assert only.components == {"my_rewards:of_numpy": 1.0, "my_rewards:of_an_array": 0.5}


def test_accuracy_does_not_depend_on_the_functions():
    (only,) = score({"brevity": 1.0}, r"\boxed{ 1 }")
    assert only.accuracy == 1.0 and only.outcome is Outcome.CORRECT and only.reward == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rewards:broken", "ValueError: no luck"),
        ("my_rewards:nothing", "must return a finite number; returned nan"),
        ("my_rewards:silent", "must return a finite number; returned None"),
        ("my_rewards:many", "ValueError: "),
        ("my_rewards:leaves", "SystemExit: 0"),
        ("my_rewards:later", "must return a finite number; returned <coroutine"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_function_that_fails_is_named_with_the_item(name, message):
    with pytest.raises(RewardError, match=rf"reward function {name}, response to prompt abc .*{message}"):
        score({"accuracy": 1.0, name: 1.0}, r"\boxed{ 1 }")


def test_a_stop_request_is_no_failure_of_the_function_in_which_it_arrives():
    def stop(number, frame):
        raise StopRequested

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(StopRequested):
            score({"my_rewards:interrupted": 1.0}, r"\boxed{ 1 }")
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    "name", ["brief", "leaving:f", "my_rewards:none", "no_such_module:f", "my_rewards:number", ":f", "my_rewards"]
)
def test_what_is_no_function_is_refused_at_the_start(name):
    with pytest.raises(ConfigError, match=r"reward\.functions: "):
        find(name, {"accuracy": math.sqrt})  # type: ignore[dict-item]  # as it is


def test_groups_that_were_begun_are_scored_once():
    groups = [group(r"\boxed{ 1 }"), group(r"\boxed{ 2 }", "1")]
    with Scorer(Reward(), max_response_tokens=8, tokenizer=TOKENIZER) as scorer:
        scorer.begin(groups[1])
        graded = scorer.score(groups)
        assert not scorer._begun
    assert [[score.accuracy for score in one.scores] for one in graded] == [[1.0], [0.0, 0.0]]
    assert [one.prompt for one in graded] == [one.prompt for one in groups]
