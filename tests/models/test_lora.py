"""Adapters: what is trained, saved and sampled from are peft's, and the sum with the model's weights."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from fipo.batch import Prompt
from fipo.config import Distributed, Lora, Optimizer
from fipo.distributed.engine import TrainingEngine
from fipo.errors import ConfigError
from fipo.models import save_model
from fipo.models.lora import adaptable, add_adapter, plain_parameters, save_adapter
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.training.rows import Row, pack_rows
from fipo.training.sft import cross_entropy
from tests.models.families import build, tokenizer_of

ROWS = [
    Row([5, 6, 7], np.array([9, 40, 41, 2, 3], np.int32)),
    Row([8], np.array([11, 12, 60, 61, 62, 63, 64, 65], np.int32)),
]


@torch.no_grad()
def disturb(model):
    """As training would: B is zero no more."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def engine_of(model, world, **settings):
    distributed = Distributed(precision="fp32", timeout_seconds=60)
    return TrainingEngine(model, Optimizer(**settings), distributed, world)


def log_probs(engine):
    tokens = pack_rows(ROWS, 0)
    with torch.no_grad():
        return engine.log_probs(tokens)[0][tokens.response_mask]


@torch.no_grad()
def by_transformers(model):
    found = []
    for row in ROWS:
        ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
        start = len(row.prompt_ids)
        scores = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)[start - 1 : -1]
        found.append(scores.gather(-1, ids[0, start:, None])[:, 0])
    return torch.cat(found)


@pytest.mark.parametrize("family", ["qwen2", "qwen3-moe", "gemma2", "phi", "phi3", "granite", "mixtral"])
def test_plain_peft_and_plain_transformers_load_what_was_trained(world, family, tmp_path):
    base = build(family)
    settings, model = Lora(rank=3, alpha=5.0), copy.deepcopy(base)
    add_adapter(model, settings, seed=1)
    before = by_transformers(base)
    torch.testing.assert_close(by_transformers(model), before, rtol=0, atol=0)  # a new one adds nothing
    disturb(model)
    engine = engine_of(model, world)
    trained = log_probs(engine)
    assert (trained - before).abs().mean() > 0.1, "nothing would show"

    save_adapter(engine.adapter(), settings, "some/model", tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == (
        "some/model"
    )
    peft = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter")
    torch.testing.assert_close(by_transformers(peft), trained, rtol=0, atol=1e-4)

    save_model(model, tokenizer_of(96), tmp_path / "model", engine.state_dict())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in base.named_parameters()}
    torch.testing.assert_close(by_transformers(plain), trained, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen2", "llama", "mixtral"])
def test_weights_have_the_names_and_the_order_of_the_plain_model(family):
    base = build(family)
    model = copy.deepcopy(base)
    add_adapter(model, Lora(), seed=1)
    assert [(name, tuple(one.shape)) for name, one, _ in plain_parameters(model)] == [
        (name, tuple(one.shape)) for name, one in base.named_parameters()
    ]


def test_an_engine_with_a_copy_samples_from_the_sum(world):
    base = build("qwen3")
    model = copy.deepcopy(base)
    add_adapter(model, Lora(rank=2, alpha=4.0), seed=1)
    disturb(model)
    engine = engine_of(model, world)
    sampling, prompts = Sampling(group_size=4, max_response_tokens=12, seed=3), [Prompt("p", "", (5, 6, 7), "")]
    how: dict[str, Any] = {"eos_token_id": 1, "pad_token_id": 0, "max_batch_tokens": 512}
    itself, other = TransformersEngine(model, in_training=True, **how), TransformersEngine(base, **how)
    for sampler in (itself, other):
        sampler.load_weights(engine.weights(), version=5)
    [one], [two] = itself.generate(prompts, sampling), other.generate(prompts, sampling)
    for ours, theirs in zip(one.rollouts, two.rollouts):
        assert ours.weight_version == theirs.weight_version == 5
        np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)


def test_only_the_adapter_is_trained(world):
    model = build("qwen2")
    add_adapter(model, Lora(rank=2, targets=("v_proj", "down_proj")), seed=1)
    engine = engine_of(model, world, learning_rate=1e-2, warmup_steps=0)
    before = {name: one.clone() for name, one in model.named_parameters()}
    for _ in range(2):  # A moves from the second step on: at the first B is zero
        cross_entropy(engine, ROWS, 0, 64, learn=True)
        engine.step()
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert moved == {name for name, _ in engine.trained_parameters()}
    assert {name.split(".")[-4] for name in moved} == {"v_proj", "down_proj"} and len(moved) == 2 * 2 * 2


def test_the_gradient_is_the_same_with_less_memory(world):
    """The embeddings are frozen: a checkpoint whose input needs no gradient must pass it on to the adapter inside."""
    norms = []
    for saving in (False, True):
        model = build("qwen2")
        add_adapter(model, Lora(rank=4), seed=1)
        disturb(model)
        distributed = Distributed(
            precision="fp32", activation_checkpointing=saving, tiled_mlp=saving, timeout_seconds=60
        )
        engine = TrainingEngine(model, Optimizer(), distributed, world)
        cross_entropy(engine, ROWS, 0, 64, learn=True)
        norms.append(engine.step().grad_norm)
    assert norms[0] > 0.01 and norms[1] == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize("alpha", [32.0, 8.0])
def test_the_first_step_of_a_full_rank_adapter_is_that_of_training_the_weight(world, alpha):
    """With A = 1 the sum is W + s B, and B's gradient s G, where G is W's. Adam's first step is the sign of a gradient
    times the learning rate, whatever its size: W changes by -s lr sign(G). A has none: its gradient is s B^T G, and B
    is zero."""
    base = build("qwen2")
    model = copy.deepcopy(base)
    add_adapter(model, Lora(rank=32, alpha=alpha, targets=("q_proj",)), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.copy_(torch.eye(32))
    engine = engine_of(model, world, learning_rate=1e-3, warmup_steps=0, weight_decay=0.0)
    cross_entropy(engine, ROWS, 0, 64, learn=True)
    engine.step()
    tokens = sum(len(row.response_ids) for row in ROWS)
    for row in ROWS:
        ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
        start = len(row.prompt_ids)
        logits = base(input_ids=ids).logits[0, start - 1 : -1]
        (torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum") / tokens).backward()
    merged = dict(engine.weights())
    for name, weight in base.named_parameters():
        if "q_proj.weight" in name:
            gradient = weight.grad
            clear = gradient.abs() > 1e-4  # Adam's epsilon of 1e-8 does not show
            assert clear.float().mean() > 0.9
            expected = -(alpha / 32) * 1e-3 * gradient.sign()
            torch.testing.assert_close((merged[name] - weight.detach())[clear], expected[clear], rtol=1e-3, atol=1e-7)
        else:
            assert torch.equal(merged[name], weight.detach())


def test_the_same_seed_gives_pefts_adapter():
    base = build("llama")
    ours, again, other, peft = (copy.deepcopy(base) for _ in range(4))
    state = torch.get_rng_state()
    for model, seed in ((ours, 4), (again, 4), (other, 5)):
        add_adapter(model, Lora(rank=2, alpha=3.0), seed=seed)
    assert torch.equal(torch.get_rng_state(), state), "the run's own random numbers are as they were"
    torch.manual_seed(4)
    theirs = get_peft_model(peft, LoraConfig(r=2, lora_alpha=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    expected = {name.removeprefix("base_model.model."): one for name, one in theirs.named_parameters()}
    found = [dict(model.named_parameters()) for model in (ours, again, other)]
    assert found[0].keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) and torch.equal(one, found[1][name]) for name, one in found[0].items())
    assert any(not torch.equal(one, found[2][name]) for name, one in found[0].items())


def test_a_target_that_is_no_layer_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"model\.lora\.targets.*down_proj.*q_proj.*got lm_head, query"):
        adaptable(build("llama"), ("q_proj", "lm_head", "query"))
