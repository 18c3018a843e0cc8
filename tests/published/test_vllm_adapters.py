"""A published model with an adapter beside real vLLM, and served by it. `make test-vllm`, and `make test-real`."""

import contextlib
import json
import subprocess
import sys
import urllib.request

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fipo.config import Lora, Model
from fipo.models import load_tokenizer
from fipo.training.comparisons import ENGINE_LIMIT_FLOAT32
from tests.published.problems import problems
from tests.published.test_admission import LONGEST, Case
from tests.published.test_training import warm_up
from tests.rollout.conftest import wait_until_healthy
from tests.waiting import free_port

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_admitted_beside_vllm_with_an_adapter(published, world, precision):
    """vLLM gets merged weights."""
    from fipo.rollout.vllm import VllmEngine

    case = Case(published, world, Lora(rank=8), precision)
    dtype = str(case.engine.dtype).removeprefix("torch.")
    case.rollout = VllmEngine(str(published.folder), eos_token_id=case.stops.ids, context=LONGEST, dtype=dtype)
    admission = case.admit()
    case.rollout.close()
    print(*admission.checks, sep="\n")
    assert {"adapter", "engine", "engine, long row"} <= {check.name for check in admission.checks}


@contextlib.contextmanager
def serving(base, adapter, rank):
    """As docs/lora.md says: the model, and the adapter under a name of its own."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--port", str(port)]
    command += ["--served-model-name", "base", "--enable-lora", "--max-lora-rank", str(rank)]
    command += ["--lora-modules", f"taught={adapter}"]
    command += ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager"]
    process = subprocess.Popen(command)
    try:
        wait_until_healthy(url, process, seconds=1800)
        yield url
    finally:
        process.terminate()
        process.wait()


def served(url, model, ids):
    """[tokens - 1] log-probs of a row."""
    asked = {"model": model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0.0}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(asked).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        [choice] = json.load(answer)["choices"]
    found = [said[str(token)]["logprob"] for token, said in zip(ids[1:], choice["prompt_logprobs"][1:], strict=True)]
    return torch.tensor(found)


@torch.no_grad()
def by_transformers(model, ids):
    log_probs = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1].float(), dim=-1)
    return log_probs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_vllms_own_lora_serves_what_was_trained(published, tmp_path):
    """Its log-probs are those of plain peft, and of the merged weights; those of the model before are far away."""
    rank, out = 8, tmp_path / "trained"
    how = {"batch": 4, "problems": 50, "held_out": 1, "steps": 4, "learning_rate": published.sized(5e-4, 1e-2)}
    warm_up(published.folder, out, **how, lora={"rank": rank, "alpha": 32.0})
    tokenizer = load_tokenizer(Model(name_or_path=str(published.folder)))
    rows = [tokenizer(row["prompt"] + " " + row["response"]).input_ids for row in problems(2, seed=9)]
    base = AutoModelForCausalLM.from_pretrained(published.folder, dtype=torch.float32)
    before = [by_transformers(base, row) for row in rows]
    merged = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, out / "adapter")
    with serving(published.folder, out / "adapter", rank) as url:
        found = {name: [served(url, name, row) for row in rows] for name in ("base", "taught")}
    for row, own, plain, taught in zip(rows, before, found["base"], found["taught"], strict=True):
        gaps = {
            "peft": (by_transformers(adapted, row) - taught).abs().mean(),
            "merged": (by_transformers(merged, row) - taught).abs().mean(),
            "without": (own - plain).abs().mean(),
            "learned": (taught - plain).abs().mean(),
        }
        print({name: float(gap) for name, gap in gaps.items()})
        assert max(gaps[name] for name in ("peft", "merged", "without")) < ENGINE_LIMIT_FLOAT32 < 0.1 * gaps["learned"]
