"""What our code reaches on a GPU, in one prepared script: a card is lent for minutes, and nothing is thought out there.

    python -m benchmarks.gpu [--json] [--tiny] [--minutes 12] [--output gpu.json]

The parts below run one after the other, each in a process of its own, the most telling first; none is begun that the
minutes do not leave room for. What each found is written before the next begins: whatever ends the script, it stays.
`--tiny` does the same in small, on a CPU, to see that the script itself runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import context


@dataclass(frozen=True, slots=True)
class Part:
    """One of the script."""

    name: str
    command: Sequence[str]
    tiny: Sequence[str]
    seconds: float
    """At most, on a card."""

    def run(self, *, tiny: bool) -> dict[str, Any]:
        """What its last line says, or why there is none."""
        began = time.monotonic()
        command = [sys.executable, "-m", *(self.tiny if tiny else self.command)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.seconds, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done within {self.seconds:g} s"}
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {"said": done.stdout.splitlines()[-12:]}
        if done.returncode:
            found["failed"] = f"exit code {done.returncode}: {done.stderr.strip()[-400:]}"
        return found | {"seconds": round(time.monotonic() - began, 1)}


MODEL = {"hidden_size": 1024, "intermediate_size": 3072, "layers": 28, "attention_heads": 16, "key_value_heads": 8}
"""Of the RL steps: the body of Qwen3-0.6B, for the demo's vocabulary."""
STEPS = (
    *("fipo.cli", "run", "--recipe", "demo", "--set", "train.steps=10", "--set", "run.directory=runs/gpu"),
    *("--set", "sft.steps=100", "--set", "sft.learning_rate=1e-4", "--set", "train.learning_rate=1e-6"),
    *("--set", "train.checkpoint_every=10", "--set", "train.evaluate_every=10"),
)
SIZED = tuple(word for name, value in MODEL.items() for word in ("--set", f"model.architecture.{name}={value}"))
LORA = ("--set", "run.name=lora", "--set", "model.lora={rank: 8}", "--set", "train.learning_rate=1e-5")


def _update(*how: str) -> tuple[str, ...]:
    return ("benchmarks.update", "--json", *how)


PARTS = (
    Part("doctor", ("fipo.cli", "doctor", "--json"), ("fipo.cli", "doctor", "--json"), 60.0),
    Part(
        "kernels",
        ("pytest", "-q", "tests/algorithm", "tests/rollout/test_cuda_graphs.py"),
        ("pytest", "-q", "tests/algorithm/test_fused.py"),
        60.0,
    ),
    *(
        Part(
            f"log_probs, hidden {hidden}, {tokens} tokens",
            ("benchmarks.log_probs", "--json", "--hidden", hidden, "--tokens", tokens),
            ("benchmarks.log_probs", "--json", "--tokens", "64"),
            60.0,
        )
        for hidden, tokens in (("4096", "32768"), ("2048", "8192"))
    ),
    *(
        Part(f"update {' '.join(how)}", _update(*how), _update("--variants", "plain"), 90.0)
        for how in (
            ("--model", "1.7B", "--tokens", "32768", "--checkpointing"),
            ("--model", "1.7B", "--tokens", "8192"),
        )
    ),
    Part("future_kl", ("benchmarks.future_kl", "--json"), ("benchmarks.future_kl", "--help"), 50.0),
    Part("ten steps, all weights", (*STEPS, *SIZED), STEPS, 240.0),
    Part("ten steps, an adapter", (*STEPS, *SIZED, *LORA), (*STEPS, *LORA), 240.0),
    Part("packing", ("benchmarks.packing", "--json"), ("benchmarks.packing", "--help"), 60.0),
    Part("rollout", ("benchmarks.rollout", "--json"), ("benchmarks.rollout", "--help"), 180.0),
)
"""In the order of what they tell."""


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--tiny", action="store_true", help="in small, to see that the script runs")
    parser.add_argument("--minutes", type=float, default=12.0, help="for all (default: 12)")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="what is found, as it is found")
    parser.add_argument("--only", default="", help="names of parts, separated by commas (default: all)")
    options = parser.parse_args()
    end = time.monotonic() + 60.0 * options.minutes
    found: dict[str, Any] = {}
    for part in PARTS:
        if options.only and part.name not in options.only.split(","):
            continue
        left = end - time.monotonic()
        enough = left > part.seconds or options.tiny
        found[part.name] = part.run(tiny=options.tiny) if enough else {"failed": f"not begun: {left:.0f} s were left"}
        print(
            f"{part.name}: {found[part.name].get('failed', 'done')}, {found[part.name].get('seconds', 0)} s", flush=True
        )
        options.output.write_text(json.dumps(found | context(), indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(found | context()))


if __name__ == "__main__":
    main()
