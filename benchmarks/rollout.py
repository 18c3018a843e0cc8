"""Tokens per second of the embedded rollout engine, beside `model.generate` and, where it is installed, vLLM.

    python -m benchmarks.rollout [--json]

64 prompts of 16 to 64 tokens, 8 responses each, at most 128 new tokens; each token ends a response with a probability
of 1/32, so that lengths are skewed: most end early, a few run to the limit. All three sample from the same models, with
random weights, of 4 and 80 million parameters, and count the tokens up to the end of each response.

On a GPU the models have 80 and 500 million parameters in bfloat16, responses at most 512 tokens, and one token in 128
ends one; `launched` is the embedded engine where its steps are not captured as CUDA graphs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from benchmarks.harness import DEVICE, context, peak_bytes
from fipo.batch import Prompt, RolloutGroup
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.transformers import TransformersEngine

ON_GPU = DEVICE.type == "cuda"
PROMPTS, GROUP = 64, 8
NEW_TOKENS, STOP_SHARE = (512, 128) if ON_GPU else (128, 32)


class Size(NamedTuple):
    """Of a Qwen3 model."""

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int


SMALL, LARGE = ("80m", "500m") if ON_GPU else ("4m", "80m")
SIZES = {
    "4m": Size(256, 704, 4, 4096),
    "80m": Size(640, 1728, 16, 16384),
    "500m": Size(1024, 3072, 28, 151936),
}
VLLM = Path(".venv-vllm/bin/python")
"""vLLM wants other versions of its dependencies, so it has an environment of its own (`make test-vllm` makes it)."""


def build(size: str) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    hidden, intermediate, layers, vocabulary = SIZES[size]
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 128,
        head_dim=64,
        max_position_embeddings=2 * NEW_TOKENS,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config)
    model.to(DEVICE, torch.bfloat16 if ON_GPU else torch.float32)  # type: ignore[arg-type]  # transformers' decorator
    model.eval()
    return model


def make_prompts(vocabulary: int) -> list[Prompt]:
    random = np.random.default_rng(0)
    rows = [random.integers(vocabulary // STOP_SHARE, vocabulary, size=random.integers(16, 65)) for _ in range(PROMPTS)]
    return [
        Prompt(id=f"{index:04x}", text="", token_ids=tuple(row.tolist()), answer="") for index, row in enumerate(rows)
    ]


def run_engine(engine: RolloutEngine, prompts: list[Prompt]) -> int:
    groups: list[RolloutGroup] = engine.generate(prompts, Sampling(GROUP, NEW_TOKENS))
    return sum(len(rollout.token_ids) for group in groups for rollout in group.rollouts)


@torch.no_grad()
def run_generate(model: Qwen3ForCausalLM, prompts: list[Prompt], stop_ids: list[int]) -> int:
    width = max(len(prompt.token_ids) for prompt in prompts)
    padding = torch.tensor([width - len(prompt.token_ids) for prompt in prompts])
    ids = torch.tensor([[0] * (width - len(prompt.token_ids)) + list(prompt.token_ids) for prompt in prompts])
    # Of transformers' annotations: `generate` has `self` twice, and gives more than ids only when asked to.
    output: torch.Tensor = model.generate(  # type: ignore[misc, assignment]
        ids.to(DEVICE),
        attention_mask=(torch.arange(width) >= padding[:, None]).long().to(DEVICE),
        do_sample=True,
        top_k=0,
        max_new_tokens=NEW_TOKENS,
        num_return_sequences=GROUP,
        eos_token_id=stop_ids,
        pad_token_id=0,
    )
    stops = output[:, width:] < len(stop_ids)
    lengths = torch.where(stops.any(dim=1), stops.float().argmax(dim=1) + 1, output.shape[1] - width)
    return int(lengths.sum())


def measure(call: Callable[[], int]) -> dict[str, float]:
    """Tokens per second of one call, and how far memory grew."""
    result: dict[str, float] = {}

    def timed() -> None:
        started = time.perf_counter()
        tokens = call()
        result.update(tokens=tokens, seconds=time.perf_counter() - started)

    result["peak_bytes"] = peak_bytes(timed)
    result["tokens_per_second"] = result["tokens"] / result["seconds"]
    return result


def compare(size: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and measurement of each engine, ours first."""
    model = build(size)
    prompts, stop_ids = make_prompts(model.config.vocab_size), list(range(model.config.vocab_size // STOP_SHARE))
    engine = TransformersEngine(model, eos_token_id=stop_ids, pad_token_id=0, max_batch_tokens=1 << 20)
    run_engine(engine, prompts[:1])
    yield "fipo", measure(lambda: run_engine(engine, prompts))
    if ON_GPU:
        with patch("fipo.rollout.transformers.can_be_captured", return_value=False):
            yield "launched", measure(lambda: run_engine(engine, prompts))
    yield "generate", measure(lambda: run_generate(model, prompts, stop_ids))
    if VLLM.exists():
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            command = [str(VLLM), "-m", "benchmarks.rollout", "--vllm", folder]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        yield "vllm", json.loads(answer.splitlines()[-1])


def measure_vllm(folder: str) -> dict[str, float]:
    """In vLLM's own environment."""
    from fipo.rollout.vllm import VllmEngine
    from fipo.rollout.weights import stored_weights

    config = AutoModelForCausalLM.from_pretrained(folder).config
    prompts, stop_ids = make_prompts(config.vocab_size), list(range(config.vocab_size // STOP_SHARE))
    engine = VllmEngine(folder, eos_token_id=stop_ids, context=config.max_position_embeddings, dtype="float32")
    engine.load_weights(stored_weights(Path(folder)), 0)
    run_engine(engine, prompts[:1])
    result = measure(lambda: run_engine(engine, prompts))
    engine.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--vllm", metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.vllm:
        print(json.dumps(measure_vllm(arguments.vllm)))
        return
    print(f"{'model':>6} {'engine':>10} {'tokens':>8} {'seconds':>9} {'tokens/s':>9} {'times':>6} {'peak MB':>8}")
    results: dict[str, dict[str, dict[str, float]]] = {size: {} for size in (SMALL, LARGE)}
    for size, engines in results.items():
        for name, result in compare(size):
            engines[name] = result
            times = engines["fipo"]["tokens_per_second"] / result["tokens_per_second"]
            print(
                f"{size:>6} {name:>10} {result['tokens']:>8.0f} {result['seconds']:>9.2f} "
                f"{result['tokens_per_second']:>9.0f} {times:>6.2f} {result['peak_bytes'] / 2**20:>8.0f}",
                flush=True,
            )
    if arguments.json:
        print(json.dumps(summary(results)))


def summary(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, object]:
    def over(size: str, peer: str, measure: str = "tokens_per_second") -> float:
        return results[size]["fipo"][measure] / results[size][peer][measure]

    found = context()
    found["versions"] |= {"transformers": version("transformers")}
    ratios = {"ratio": over(SMALL, "generate"), f"ratio_{LARGE}": over(LARGE, "generate")}
    if "vllm" in results[SMALL]:
        ratios |= {"ratio_vllm": over(SMALL, "vllm"), f"ratio_vllm_{LARGE}": over(LARGE, "vllm")}
    memory = {"memory_ratio": over(LARGE, "generate", "peak_bytes")}
    return {**ratios, **memory, **found, "results": results}


if __name__ == "__main__":
    main()
