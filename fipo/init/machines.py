"""What a run may be like on a kind of machine: sizes that a newcomer need not know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes for a model of one's own to start with; each is a setting of the recipe."""

    steps: int
    prompts_per_step: int
    mini_batch_prompts: int
    group_size: int
    max_prompt_tokens: int
    max_response_tokens: int
    max_tokens_per_micro_batch: int
    sft_steps: int
    sft_batch_size: int
    benchmark_rows: int
    engine: str = "transformers"
    samples: int = 1


MACHINES = {
    "laptop": Machine(10, 8, 4, 4, 256, 160, 4096, 60, 8, 48),
    "one-gpu": Machine(100, 32, 8, 8, 1024, 1024, 32768, 200, 32, 500, engine="vllm", samples=4),
    "node": Machine(300, 128, 32, 16, 2048, 4096, 32768, 500, 64, 1000, engine="vllm", samples=8),
}
"""By name, the smallest first."""


def this_machine() -> str:
    """The kind of this machine, by its GPUs, without a library that takes seconds to import."""
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return "node" if gpus > 1 else "one-gpu" if gpus else "laptop"
