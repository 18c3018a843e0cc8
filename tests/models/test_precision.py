"""Rotary embeddings in every precision, and log-probs far out in long rows."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fipo.config import Architecture, Distributed, Model, Optimizer
from fipo.distributed.attention import use_packed_attention
from fipo.distributed.token_log_probs import TokenLogProbs
from fipo.models import load_tokenizer, save_model
from fipo.models.precision import kept_share, place
from tests.models.families import build

FAR = 16_384


def frequencies(model):
    return {name: buffer for name, buffer in model.named_buffers() if "inv_freq" in name}


@pytest.mark.parametrize("family", ["qwen2", "gemma3", "smollm3"])
def test_frequencies_stay_in_float32(family):
    model = build(family)
    before = {name: buffer.clone() for name, buffer in frequencies(model).items()}
    assert before
    place(model, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(buffer, before[name]) for name, buffer in frequencies(model).items())


def test_a_tied_head_stays_tied():
    model = place(build("qwen2"), torch.bfloat16)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.slow
def test_the_engine_trains_with_float32_frequencies(world):
    from fipo.distributed.engine import TrainingEngine

    model = build("qwen3")
    before = {name: buffer.clone() for name, buffer in frequencies(model).items()}
    distributed = Distributed(precision="bf16", timeout_seconds=60)
    engine = TrainingEngine(model, Optimizer(max_tokens_per_micro_batch=64), distributed, world)
    engine.null_step()
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(buffer, before[name]) for name, buffer in frequencies(engine.model).items())


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_log_probs_at_far_positions(family, dtype):
    """Behind a row that is packed in front, against transformers' own forward in the same precision.

    bfloat16 keeps three digits: two orders of the same sums are some 0.005 nats apart.
    """
    settings = {"num_hidden_layers": 1, "max_position_embeddings": FAR}
    model = build(family, **settings)
    for name, parameter in model.named_parameters():
        if "q_proj" in name or "k_proj" in name:
            parameter.mul_(2.0)  # it looks at few of the 16,384
    place(model, dtype)
    generator = torch.Generator().manual_seed(1)
    short, long = (torch.randint(2, 96, (1, length), generator=generator) for length in (50, FAR))
    logits = model(input_ids=long, logits_to_keep=201).logits[0, :-1].float()
    expected = torch.log_softmax(logits, dim=-1).gather(-1, long[0, -200:, None])[:, 0]

    use_packed_attention(model)
    ids = torch.cat([short, long], dim=1)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[0, -201:-1] = True
    positions = torch.cat([torch.arange(50), torch.arange(FAR)])[None]
    starts = torch.tensor([0, 50, 50 + FAR], dtype=torch.int32)

    def gap():
        log_probs, _ = TokenLogProbs(model, 1.0)(ids, ids.roll(-1), mask, positions, starts, FAR)
        return float((log_probs[mask] - expected).abs().mean())

    assert gap() < (0.02 if dtype is torch.bfloat16 else 1e-5)
    if family != "mistral" and dtype is torch.float32:  # in a window of nine tokens no angle is large
        for buffer in frequencies(model).values():
            buffer.copy_(buffer.bfloat16())
        assert gap() > 1e-3, "rounded frequencies turn the angles between tokens that are far apart"


def test_what_a_narrower_precision_keeps_of_a_change():
    """By hand: from 1 up, the steps of bfloat16 are 1/128, and a change of less than half of one is undone."""
    start = {"w": torch.ones(4), "other": torch.ones(3), "reshaped": torch.ones(2)}

    def kept(*changes):
        trained = {"w": torch.ones(4) + torch.tensor(changes), "reshaped": torch.ones(5)}
        return kept_share(trained, start.items(), torch.bfloat16)

    step = 1 / 128
    assert kept(0.0, 0.0, 0.0, 0.0) is None
    assert kept(step, 2 * step, 0.0, 4 * step) == 1.0
    assert kept(step / 4, step / 3, -step / 5, step / 8) == 0.0
    # Of 1.25 steps 0.25 are lost, and so are all of 0.25: out of sqrt(1.25^2 + 3^2) and sqrt(0.25^2 + 3^2).
    assert kept(1.25 * step, 3 * step, 0.0, 0.0) == pytest.approx(1 - 0.25 / 3.25)
    assert kept(0.25 * step, 3 * step, 0.0, 0.0) == pytest.approx(1 - 0.25 / 9.0625**0.5)
    # Rounding up adds what was not learned: 0.75 of a step becomes a whole one.
    assert kept(0.75 * step, 0.0, 0.0, 0.0) == pytest.approx(1 - 0.25 / 0.75)
    assert kept_share({}, start.items(), torch.bfloat16) is None
    assert kept_share({"w": torch.full((4,), 1e5)}, start.items(), torch.float16) is None, "beyond its range"


@pytest.mark.parametrize("family", ["qwen2", "gemma3", "qwen3-moe"])
@pytest.mark.parametrize("given", [False, True], ids=["its own weights", "a state dict"])
def test_a_model_saved_in_a_narrower_precision(family, given, tmp_path):
    """Tied weights once, its configuration says so, and the model in memory is as it was."""
    model, tokenizer = build(family), load_tokenizer(Model(architecture=Architecture(vocabulary=("a", "b"))))
    save_model(model, tokenizer, tmp_path / "wide")
    save_model(model, tokenizer, tmp_path / "narrow", model.state_dict() if given else None, torch.bfloat16)
    assert model.dtype is torch.float32
    wide, narrow = (load_file(tmp_path / name / "model.safetensors") for name in ("wide", "narrow"))
    assert wide.keys() == narrow.keys()
    assert all(torch.equal(narrow[name], weight.bfloat16()) for name, weight in wide.items())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "narrow")
    assert loaded.config.dtype is loaded.dtype is torch.bfloat16
    assert loaded.config.architectures == [type(model).__name__]
