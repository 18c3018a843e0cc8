"""The embedded engine: its log-probs, its distribution, and what its responses may not depend on."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fipo.batch import FinishReason, Prompt, RolloutGroup
from fipo.errors import RolloutError
from fipo.rollout.engine import Sampling
from fipo.rollout.sampling import sample
from fipo.rollout.transformers import TransformersEngine

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
STOP, PAD, VOCABULARY = 1, 0, 17


def tiny(family="qwen3", *, seed=0, **settings):
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(seed)
    config = config_class(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=96,
        initializer_range=0.3,
        **settings,
    )
    return model_class(config)


def engine_of(model, max_batch_tokens=8192, eos_token_id=STOP):
    return TransformersEngine(model, eos_token_id=eos_token_id, pad_token_id=PAD, max_batch_tokens=max_batch_tokens)


def prompts_of(count, *, longest=12, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, size=count)
    ids = [tuple(random.integers(2, VOCABULARY, size=length).tolist()) for length in lengths]
    return [Prompt(id=f"{index:08x}", text="", token_ids=tokens, answer="") for index, tokens in enumerate(ids)]


def test_parts_are_what_a_batch_holds():
    # Longest prompt 12 and 30 tokens more: 16 rows fit in 672 positions, which are 4 prompts of 4 responses.
    prompts, sampling = prompts_of(23), Sampling(group_size=4, max_response_tokens=30)
    parts = engine_of(tiny(), max_batch_tokens=672).parts(prompts, sampling, ranks=2)
    assert sorted(place for part in parts for place in part) == list(range(23))
    assert [len(part) for part in parts] == [3, 4, 4, 4, 4, 4], "three batches for each rank, as dealt out"
    lengths = [[len(prompts[place].token_ids) for place in part] for part in parts]
    assert all(min(longer) >= max(shorter) for longer, shorter in pairwise(lengths)), "the longest prompts first"


@pytest.mark.parametrize(
    ("positions", "ranks"),
    [(8192, 2), (672, 1), (300, 2)],  # all fit at once; nobody is there to share with; any cut costs a batch more
)
def test_where_there_is_nothing_to_take_prompts_are_dealt_out(positions, ranks):
    parts = engine_of(tiny(), positions).parts(prompts_of(8), Sampling(4, 30), ranks=ranks)
    assert parts == [list(range(rank, 8, ranks)) for rank in range(ranks)]


def test_a_response_does_not_depend_on_the_part_it_is_in():
    prompts, sampling, model = prompts_of(23), Sampling(group_size=4, max_response_tokens=30, seed=5), tiny()
    together = {group.prompt.id: group for group in engine_of(model).generate(prompts, sampling)}
    engine = engine_of(model, max_batch_tokens=672)
    for part in engine.parts(prompts, sampling, ranks=2):
        for group in engine.generate([prompts[place] for place in part], sampling):
            for one, other in zip(group.rollouts, together[group.prompt.id].rollouts, strict=True):
                np.testing.assert_array_equal(one.token_ids, other.token_ids)


@torch.no_grad()
def forward_log_probs(model, prompt, rollout, temperature=1.0):
    """Of the sampled tokens, from one plain pass over the whole sequence."""
    ids = torch.tensor([[*prompt.token_ids, *rollout.token_ids.tolist()]])
    log_probs = torch.log_softmax(model(ids).logits[0].double() / temperature, dim=-1)
    start = len(prompt.token_ids)
    return log_probs[start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0].numpy()


def all_rollouts(groups: list[RolloutGroup]):
    return [(group.prompt, rollout) for group in groups for rollout in group.rollouts]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_log_probs_agree_with_a_plain_forward_pass(family, attention):
    model = tiny(family, attn_implementation=attention)
    sampling = Sampling(group_size=3, max_response_tokens=40, temperature=0.7)
    groups = engine_of(model).generate(prompts_of(9), sampling)
    for prompt, rollout in all_rollouts(groups):
        np.testing.assert_allclose(rollout.log_probs, forward_log_probs(model, prompt, rollout, 0.7), atol=1e-5)


def test_responses_do_not_depend_on_the_batch_around_them():
    prompts, sampling = prompts_of(12), Sampling(group_size=4, max_response_tokens=30, seed=5)
    model = tiny()
    together = engine_of(model).generate(prompts, sampling)
    in_small_batches = engine_of(model, max_batch_tokens=130).generate(prompts, sampling)
    by_two_ranks = [
        *engine_of(model).generate(prompts[::2], sampling),
        *engine_of(model).generate(prompts[1::2], sampling),
    ]
    by_id = {group.prompt.id: group for group in by_two_ranks}
    for group, small in zip(together, in_small_batches, strict=True):
        for rollout, other, ranked in zip(group.rollouts, small.rollouts, by_id[group.prompt.id].rollouts, strict=True):
            np.testing.assert_array_equal(rollout.token_ids, other.token_ids)
            np.testing.assert_array_equal(rollout.token_ids, ranked.token_ids)
            np.testing.assert_allclose(rollout.log_probs, other.log_probs, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate(family):
    model = tiny(family)
    prompts = prompts_of(5)
    groups = engine_of(model).generate(prompts, Sampling(group_size=1, max_response_tokens=24, temperature=0.0))
    for prompt, rollout in all_rollouts(groups):
        expected = model.generate(
            torch.tensor([prompt.token_ids]), do_sample=False, max_new_tokens=24, eos_token_id=STOP, pad_token_id=PAD
        )[0, len(prompt.token_ids) :]
        np.testing.assert_array_equal(rollout.token_ids, expected.numpy())
        np.testing.assert_allclose(rollout.log_probs, forward_log_probs(model, prompt, rollout), atol=1e-5)


def test_a_response_ends_with_its_stop_token_or_at_the_limit():
    groups = engine_of(tiny(), eos_token_id={1, 2}).generate(
        prompts_of(8), Sampling(group_size=4, max_response_tokens=9)
    )
    rollouts = [rollout for _, rollout in all_rollouts(groups)]
    assert {rollout.finish_reason for rollout in rollouts} == {FinishReason.STOP, FinishReason.LENGTH}
    for rollout in rollouts:
        assert not set(rollout.token_ids[:-1].tolist()) & {1, 2}
        assert (rollout.token_ids[-1] in (1, 2)) == (rollout.finish_reason is FinishReason.STOP)
        assert len(rollout.token_ids) == 9 or rollout.finish_reason is FinishReason.STOP
        assert len(rollout.log_probs) == len(rollout.token_ids)


def test_the_context_bounds_the_response():
    prompt = Prompt(id="a", text="", token_ids=(3,) * 90, answer="")
    (group,) = engine_of(tiny(), eos_token_id=()).generate([prompt], Sampling(group_size=2, max_response_tokens=50))
    assert [len(rollout.token_ids) for rollout in group.rollouts] == [6, 6]


def test_a_response_that_can_never_fit_is_refused():
    prompt = Prompt(id="abc", text="", token_ids=(3,) * 20, answer="")
    with pytest.raises(RolloutError, match=r"rollout.max_batch_tokens: must be at least 30.*got 29"):
        engine_of(tiny(), 29).generate([prompt], Sampling(group_size=1, max_response_tokens=10))


def test_models_that_keep_more_than_keys_and_values_are_refused():
    model = tiny("qwen2")
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(RolloutError, match=r"qwen2.*keys and values.*found linear_attention"):
        engine_of(model)


def test_the_model_keeps_its_mode_and_gradients():
    model = tiny().train()
    engine_of(model).generate(prompts_of(1), Sampling(1, 4))
    assert model.training and torch.is_grad_enabled()


def test_sampled_frequencies_are_the_distribution():
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    uniforms = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for temperature in (0.7, 1.0):
        tokens, log_probs = sample(logits.expand(100_000, 5), uniforms, temperature=temperature, top_p=1.0)
        expected = torch.softmax(logits / temperature, dim=-1)
        torch.testing.assert_close(torch.bincount(tokens) / 100_000, expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(log_probs.exp(), expected[tokens])


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    # Probabilities 0.5, 0.3, 0.15, 0.05, out of order. The first two sum to 0.8, so 0.8 needs two and 0.81 three.
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    for top_p, kept in ((0.3, {1}), (0.79, {1, 3}), (0.81, {0, 1, 3}), (0.999, {0, 1, 2, 3})):
        tokens, log_probs = sample(logits.expand(1000, 4), uniforms, temperature=1.0, top_p=top_p)
        assert set(tokens.tolist()) == kept
        total = sum(logits[token].exp() for token in kept)
        torch.testing.assert_close(log_probs.exp(), (logits.exp() / total)[tokens])


def test_extreme_uniforms_never_pick_an_impossible_token():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]] * 2)
    tokens, log_probs = sample(
        logits, torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64), temperature=1.0, top_p=1.0
    )
    assert tokens.tolist() == [1, 1] and log_probs.tolist() == [0.0, 0.0]
