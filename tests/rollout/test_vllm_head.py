"""vLLM's LM head in float32, as the trainer's: what it is told, and what it makes of that (`make test-vllm`)."""

import argparse
import importlib.util
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fipo.batch import Prompt
from fipo.rollout.engine import Sampling
from fipo.rollout.served.server import server_command

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM")
VOCABULARY, CONTEXT, STOP = 64, 256, 1
TEMPERATURE = 2.0


def build():
    """In bfloat16, with layers that add nothing: engines may differ in the head alone (a tied one would repeat each
    token). Logits are up to some 30, where bfloat16 has steps of 0.125."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        initializer_range=1.0, eos_token_id=STOP, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).bfloat16().eval()
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
    return model


@torch.no_grad()
def log_probs(model, ids, dtype):
    """[tokens - 1], by transformers' layers and a head in `dtype`."""
    hidden = model.model(torch.tensor([ids])).last_hidden_state[0, :-1]
    logits = (hidden.to(dtype) @ model.lm_head.weight.to(dtype).T).float()
    return torch.log_softmax(logits / TEMPERATURE, dim=-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["beside the trainer", "served"])
def test_log_probs_are_those_of_a_head_in_float32(kind, tmp_path, request):
    model = build()
    model.save_pretrained(tmp_path)
    how: dict[str, Any] = {"eos_token_id": STOP, "context": CONTEXT}
    if kind == "served":
        from fipo.rollout.served.engine import ServedVllmEngine

        servers = request.getfixturevalue("vllm_servers").running(str(tmp_path), CONTEXT, 1, dtype="bfloat16")
        with servers as urls:
            engine = ServedVllmEngine(urls, model=str(tmp_path), dtype=torch.bfloat16, transfer="gloo", **how)
            gaps = gaps_of(engine, model)
    else:
        from fipo.rollout.vllm import VllmEngine

        gaps = gaps_of(VllmEngine(str(tmp_path), dtype="bfloat16", **how), model)
    print(gaps)
    assert gaps[torch.float32] < 1e-4 < 3e-3 < gaps[torch.bfloat16]


def gaps_of(engine, model):
    """Mean distance of the engine's log-probs, in nats, from those with the head in each precision."""
    engine.load_weights(model.named_parameters(), 1)
    prompt = Prompt("a", "", (5, 6, 7), "")
    [group] = engine.generate([prompt], Sampling(group_size=8, max_response_tokens=32, temperature=TEMPERATURE))
    engine.close()
    gaps = {}
    for dtype in (torch.float32, torch.bfloat16):
        far = [
            torch.from_numpy(one.log_probs) - log_probs(model, [*prompt.token_ids, *one.token_ids.tolist()], dtype)[2:]
            for one in group.rollouts
        ]
        gaps[dtype] = float(torch.cat(far).abs().mean())
    return gaps


def test_vllm_beside_the_trainer_is_told(tmp_path, monkeypatch):
    """A stand-in for vLLM, which `make test` has not, keeps what it is made with."""
    told = {}

    def llm(model, **settings):
        told.update(settings)
        scheduler = SimpleNamespace(max_num_seqs=4)
        return SimpleNamespace(llm_engine=SimpleNamespace(vllm_config=SimpleNamespace(scheduler_config=scheduler)))

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=llm))
    from fipo.rollout.vllm import VllmEngine

    build().save_pretrained(tmp_path)
    VllmEngine(str(tmp_path), eos_token_id=STOP, context=CONTEXT, dtype="bfloat16")
    assert told["hf_overrides"] == {"head_dtype": "float32"} and told["dtype"] == "bfloat16"


@pytest.mark.parametrize("transfer", ["nccl", "gloo"])
def test_a_server_is_told(transfer):
    command = server_command("m", host="h", port=1, context=9, dtype="bfloat16", tensor_parallel=1, transfer=transfer)
    parser = argparse.ArgumentParser()
    parser.add_argument("--hf-overrides", type=json.loads)
    assert parser.parse_known_args(command)[0].hf_overrides == {"head_dtype": "float32"}
