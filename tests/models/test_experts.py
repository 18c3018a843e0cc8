"""Mixtures of experts: load, the load-balancing loss, and experts that sampler and trainer choose."""

import copy

import numpy as np
import pytest
import torch
from transformers import DogeConfig, DogeForCausalLM

from fipo.config import Distributed, Optimizer
from fipo.distributed.engine import TrainingEngine
from fipo.models.experts import Experts, experts_of, load_metrics, watching
from fipo.rollout.transformers import TransformersEngine
from fipo.training.rows import Row
from fipo.training.sft import cross_entropy
from tests.models.families import COMMON, build
from tests.training.test_admission import Case

ROW = Row([5, 6, 7], np.array([9, 40, 41, 2, 3, 50, 51, 52], np.int32))


def engine_of(model, world):
    return TrainingEngine(model, Optimizer(), Distributed(precision="fp32", timeout_seconds=60), world)


def test_load_and_balance_by_hand():
    """Four experts, two to each of three tokens, in one layer: 0 is in each token's choice, 3 in none."""
    probabilities = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.6, 0.1, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    experts, logits = Experts(4, 2, 0.1), (probabilities.log(),)
    assert experts.chosen(logits).tolist() == [[[0, 1], [0, 2], [0, 1]]]
    load = experts.load(logits)
    assert load.tolist() == [[3, 2, 1, 0]]
    assert load_metrics(load) == {"expert_load_max": 3 / 1.5, "expert_idle_fraction": 0.25}
    # 4 * (3/3 * 0.5 + 2/3 * 0.7/3 + 1/3 * 0.5/3 + 0)
    assert experts.balance(logits).item() == pytest.approx(4 * (0.5 + 1.4 / 9 + 0.5 / 9))
    even = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]]).log()
    assert experts.balance([even]).item() == pytest.approx(2.0)


@pytest.mark.parametrize("family", ["qwen3-moe", "mixtral", "granite-moe"])
def test_the_loss_has_the_gradient_of_transformers_own(world, family):
    model = build(family, output_router_logits=True, router_aux_loss_coef=0.5)
    plain = copy.deepcopy(model)
    engine = engine_of(model, world)
    cross_entropy(engine, [ROW], 0, 64, learn=True)
    assert engine.balance is not None
    ids = torch.tensor([[*ROW.prompt_ids, *ROW.response_ids.tolist()]])
    labels = ids.clone()
    labels[:, : len(ROW.prompt_ids)] = -100
    plain(input_ids=ids, labels=labels).loss.backward()
    expected = torch.sqrt(sum((one.grad.double() ** 2).sum() for one in plain.parameters() if one.grad is not None))
    assert engine.step().grad_norm == pytest.approx(expected.item(), rel=1e-4)


def test_without_being_asked_for_there_is_no_such_loss(world):
    engine = engine_of(build("qwen3-moe"), world)
    cross_entropy(engine, [ROW], 0, 64, learn=True)
    assert engine.balance is None
    load = engine.expert_load()
    assert 1.0 < load["expert_load_max"] <= 4 / 2 and engine.expert_load() == {}
    assert engine_of(build("qwen3"), world).expert_load() == {}


@pytest.mark.parametrize("family", ["qwen3-moe", "mixtral", "gpt-oss"])
def test_routers_are_found_and_watched(family):
    model = build(family)
    assert experts_of(model) == Experts(4, 2, 0.0)
    with watching(model) as seen, torch.no_grad():
        model(input_ids=torch.tensor([[3, 4, 5]]))
    assert [tuple(one.shape) for one in seen] == [(3, 4)] * 2
    model(input_ids=torch.tensor([[3, 4, 5]]))
    assert len(seen) == 2, "outside, nothing is kept"


def test_a_dense_model_that_counts_experts_has_none():
    config = DogeConfig(**COMMON)  # type: ignore[arg-type]
    assert config.num_experts and config.num_experts_per_tok
    assert experts_of(DogeForCausalLM(config)) is None


def test_admission_shows_experts_that_differ(world, monkeypatch):
    """The model asks for the loss, too: its own forward would take the cache's mask for one of tokens."""
    case = Case(world, "qwen3-moe", output_router_logits=True)
    [check] = [check for check in case.admit().checks if check.name == "experts"]
    assert check.figure == 0.0
    other = copy.deepcopy(case.model)
    for module in other.modules():
        if type(module).__name__.endswith("TopKRouter"):
            module.weight.data = module.weight.data.roll(1, 0)
    case.rollout = TransformersEngine(other, eos_token_id=1, pad_token_id=0, max_batch_tokens=4096)
    monkeypatch.setattr(case.rollout, "load_weights", lambda source, version: None)
    assert "experts" in case.refused()
