"""Run the benchmarks one after another and write docs/benchmarks.md from what they print.

    python -m benchmarks [NAME ...] [--output docs/benchmarks.md]

The figures are kept beside the document, in benchmarks.json: naming some replaces theirs and keeps the others.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = {
    "future_kl": "the paper's own listing",
    "log_probs": "`log_softmax` of full logits, with entropy",
    "packing": "rows padded to the longest of their batch",
    "rl_step": "TRL's GRPOTrainer",
    "learning": "TRL's GRPOTrainer, with the same budget of tokens",
    "rollout": "transformers' `model.generate`",
    "rewards": "math-verify in a `ProcessPoolExecutor`",
    "tracking": "`mlflow.log_metrics`",
    "data": "`datasets` and datasketch",
}
"""The benchmarks, and what each is measured against."""


def main() -> None:
    """Run what is named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *NAMES], help=f"of {', '.join(NAMES)}")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"), help="the document to write")
    options = parser.parse_args()
    kept = options.output.with_suffix(".json")
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in options.names or NAMES:
        results[name] = run(name)
        kept.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        options.output.write_text(document(results), encoding="utf-8")
    print(options.output)


def run(name: str) -> dict[str, Any]:
    """One benchmark in a process of its own: the JSON object of its last line, and when and how long it ran."""
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"benchmark {name} failed with exit code {done.returncode}; its message is above")
    *printed, last = [line for line in done.stdout.strip().splitlines() if "[WARNING]" not in line]
    result: dict[str, Any] = json.loads(last)
    minutes = (time.monotonic() - began) / 60
    print(f"{name}: ratio {result['ratio']:.2f}  ({minutes:.1f} min)", flush=True)
    return result | {"printed": printed, "date": datetime.date.today().isoformat(), "minutes": round(minutes, 1)}


def document(results: Mapping[str, Any]) -> str:
    """The page: one table of ratios, then what each benchmark is and printed."""
    lines = [
        "# Benchmarks",
        "",
        "Each runs fipo and the peer in one run, on one machine, and compares them there; times of different runs are",
        "not compared. `make bench` runs them all and writes this page; `python -m benchmarks NAME` runs one again.",
        "",
        "| benchmark | against | times better | memory, ours over theirs |",
        "|---|---|---|---|",
    ]
    for name, peer in NAMES.items():
        if name in results:
            result = results[name]
            memory = f"{result['memory_ratio']:.2f}" if result.get("memory_ratio") else ""
            lines.append(f"| [`{name}`](#{name}) | {peer} | {result['ratio']:,.2f} | {memory} |")
    for name in NAMES:
        if name in results:
            lines += section(name, results[name])
    return "\n".join(lines) + "\n"


def section(name: str, result: Mapping[str, Any]) -> list[str]:
    """What one benchmark does, where it ran, and what it printed."""
    about = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip()
    first, _, rest = about.partition("\n")
    text = "\n".join(line for line in rest.splitlines() if not line.startswith("    python -m")).strip()
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    where = f"{result['date']}, {result['minutes']:g} minutes; {machine}; {versions}."
    printed = ["```text", *result["printed"], "```"] if result["printed"] else []
    return ["", f"## {name}", "", first, "", text, "", where, "", *printed]


if __name__ == "__main__":
    main()
