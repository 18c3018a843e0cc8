"""From a recipe's `environment` to an engine with turns, and what is found out before a step works."""

import json

import pytest
import torch

from fipo.batch import Prompt
from fipo.check import require
from fipo.config import Model, load_config
from fipo.environments.notice import notice
from fipo.errors import ConfigError
from fipo.models import load_model, load_tokenizer, save_model
from fipo.rewards.sandbox.client import Sandbox
from fipo.rollout.engine import Sampling
from fipo.rollout.factory import open_engine
from fipo.rollout.transformers import TransformersEngine
from fipo.rollout.turns import TurnsEngine
from tests.training.conftest import RECIPE

HERE = "tests.environments.talkers"


def config_with(environment, *settings, where="train"):
    source = {"generator": {"digits": 3, "seed": 1}, "limit": 60, "environment": environment}
    value = json.dumps([source] if where == "train" else {"sums": source})
    return load_config(RECIPE, [f"data.{where}={value}", *settings])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    config = load_config(RECIPE)
    save_model(load_model(config.model), load_tokenizer(config.model), path)
    return path


def opened(config, folder):
    tokenizer = load_tokenizer(Model(name_or_path=str(folder)))
    return open_engine(config, folder, tokenizer, dtype=torch.float32, device=torch.device("cpu"), rank=0)


def test_a_recipe_without_environments_has_the_engine_itself(folder):
    assert type(opened(load_config(RECIPE), folder)) is TransformersEngine
    assert type(opened(config_with("guess"), folder)) is TurnsEngine
    assert type(opened(config_with("guess", where="benchmarks"), folder)) is TurnsEngine


def test_the_settings_bound_turns_and_observations(folder):
    asked = [Prompt(f"{n}", "", (2, 3, 4), "99", environment=f"{HERE}:Counter") for n in range(8)]
    for turns in (1, 2, 3):
        engine = opened(config_with("guess", f"rollout.max_turns={turns}"), folder)
        groups = engine.generate(asked, Sampling(4, 16))
        assert max(rollout.turns for group in groups for rollout in group.rollouts) == turns
        engine.close()
    long = [Prompt("p", "", (2, 3, 4), "99", environment=f"{HERE}:Loud")]
    seen = set()
    for most in (2, 6):
        engine = opened(config_with("guess", f"rollout.max_observation_tokens={most}", "rollout.max_turns=2"), folder)
        groups = engine.generate(long * 8, Sampling(4, 16))
        seen |= {len(one.token_ids) - one.own_tokens for group in groups for one in group.rollouts if one.turns > 1}
        engine.close()
    assert seen == {2, 6}


def test_as_many_environments_answer_at_once_as_there_are_workers(folder):
    asked = [Prompt(f"{n}", "", (2, 3, 4), "99", environment=f"{HERE}:Meeting") for n in range(4)]
    engine = opened(config_with("guess", "rollout.environment_workers=4", "rollout.max_turns=2"), folder)
    engine.generate(asked, Sampling(4, 16))  # none goes on until two are there


def test_a_step_says_what_holds_its_tools_in_and_can_require_it(monkeypatch):
    with Sandbox() as sandbox:
        assert str(sandbox.isolation) in notice(config_with("python"), "data.train")
    assert notice(config_with("python"), "data.benchmarks") == "" == notice(config_with("guess"))
    with pytest.raises(ConfigError, match=r"data\.train\[0\]\.environment: environment 'tests.*Absent' cannot be"):
        notice(config_with(f"{HERE}:Absent"))
    required = config_with("python", "reward.sandbox.require_isolation=true")
    received = Sandbox._receive
    monkeypatch.setattr(Sandbox, "_receive", lambda self: without_namespaces(received(self)))
    with pytest.raises(ConfigError, match=r"reward\.sandbox\.require_isolation: must have namespaces and seccomp"):
        notice(required)


def without_namespaces(reply):
    if reply.get("namespaces"):
        raise OSError("not here")
    return reply


def test_the_first_rows_are_tried():
    for name in ("guess", "python", f"{HERE}:Counter"):
        require(config_with(name), ["prepare"])
    for where, setting in (("train", r"data\.train\[0\]"), ("benchmarks", r"data\.benchmarks\.sums")):
        refused = rf"{setting}\.environment: .*Fussy must take a row of running-sums; of the first 8 sound ones "
        with pytest.raises(ConfigError, match=refused):
            require(config_with(f"{HERE}:Fussy", where=where), ["prepare"])


@pytest.mark.parametrize("name", ["pyhton", "my module:Class", "module:", ":Class", "a:b:c"])
def test_what_is_no_name_is_refused_with_the_settings(name):
    with pytest.raises(ConfigError, match=r"environment: must be empty, one of python, guess, or package\.module"):
        config_with(name)
