"""Trainer and embedded engine against transformers' own forward, one row alone, for tiny models of every family."""

import copy

import numpy as np
import pytest
import torch

from fipo.batch import Prompt
from fipo.distributed.attention import packs, use_packed_attention
from fipo.distributed.token_log_probs import TokenLogProbs
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.training.rows import Row, pack_rows
from tests.models.families import FAMILIES, build

TEMPERATURE = 0.8
PADDED = {"stablelm", "nemotron", "gpt-oss", "gptj"}
"""Families that attend by code of their own, or with more than packed attention knows."""


@torch.no_grad()
def expected(model, row):
    """[response] log-probs, by nothing of ours."""
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
    log_probs = torch.log_softmax(model(input_ids=ids).logits[0].double() / TEMPERATURE, dim=-1)
    start = len(row.prompt_ids)
    return log_probs[start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0]


def trained(module, rows):
    packed = pack_rows(rows, 0)
    ends = torch.tensor([0, *np.cumsum(packed.lengths)], dtype=torch.int32)
    log_probs, _ = module(
        packed.input_ids, packed.targets, packed.response_mask, packed.position_ids, ends, max(packed.lengths)
    )
    return log_probs[packed.response_mask].double()


def some_rows(vocabulary):
    random = np.random.default_rng(3)
    return [
        Row(random.integers(2, vocabulary, prompt).tolist(), random.integers(2, vocabulary, response).astype(np.int32))
        for prompt, response in ((4, 25), (9, 3), (1, 40), (13, 13))
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trainers_log_probs_are_the_models(family):
    model = build(family)
    rows = some_rows(model.config.vocab_size)
    reference = torch.cat([expected(model, row) for row in rows])
    assert reference.std() > 0.2, "nothing would show"
    mine = copy.deepcopy(model)
    use_packed_attention(mine)
    assert packs(mine) is (family not in PADDED)
    module = TokenLogProbs(mine, TEMPERATURE)
    assert (module.fallbacks != []) is (family in PADDED) and module.head is not None
    torch.testing.assert_close(trained(module, rows), reference, rtol=0.0, atol=1e-4)
    module.chunk_tokens = 7
    alone = torch.cat([trained(module, [row]) for row in rows])
    torch.testing.assert_close(alone, reference, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_models(family):
    """Of the whole loss of packed rows, against a forward pass for each row."""
    model = build(family)
    rows = some_rows(model.config.vocab_size)[:2]
    plain = copy.deepcopy(model)
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
        log_probs = torch.log_softmax(plain(input_ids=ids).logits[0] / TEMPERATURE, dim=-1)
        start = len(row.prompt_ids)
        total = total + log_probs[start - 1 : -1].gather(-1, ids[0, start:, None]).sum()
    total.backward()
    use_packed_attention(model)
    trained(TokenLogProbs(model, TEMPERATURE), rows).sum().backward()
    for (name, parameter), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        if other.grad is not None:
            assert torch.allclose(parameter.grad, other.grad, rtol=1e-3, atol=1e-3), name


@pytest.mark.parametrize(
    ("family", "attention"),
    [(family, "the trainer's") for family in FAMILIES]
    + [(family, "its own") for family in ("qwen3", "gemma2", "mistral")],
)
def test_the_embedded_engine_samples_from_the_model(family, attention):
    model = build(family)
    reference = copy.deepcopy(model)
    if attention == "the trainer's":
        use_packed_attention(model)
    engine = TransformersEngine(model, eos_token_id=1, pad_token_id=0, max_batch_tokens=4096)
    prompts = [Prompt(str(length), "", tuple(range(5, 5 + length)), "") for length in (2, 15)]
    groups = engine.generate(prompts, Sampling(group_size=2, max_response_tokens=14, temperature=TEMPERATURE))
    for group in groups:
        for rollout in group.rollouts:
            own = expected(reference, Row(group.prompt.token_ids, rollout.token_ids)).numpy()
            np.testing.assert_allclose(rollout.log_probs, own, atol=1e-4)
