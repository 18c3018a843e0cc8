"""Run the benchmarks one after another and write docs/benchmarks.md from what they print.

    python -m benchmarks [NAME ...] [--output docs/benchmarks.md]

The figures are kept beside the document, in benchmarks.json: naming some replaces theirs and keeps the others. A run
during which other processes took more than a fifth of a core is marked as loaded, and does not replace one that is not.
The other pages' figures are those of the same file (`benchmarks.pages`); they are written too.
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

from benchmarks import pages
from benchmarks.pairs import Load

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
ALONE = ("doors",)
"""Those that are measured against nothing but themselves before."""


def main() -> None:
    """Run what is named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*NAMES, *ALONE]
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *every], help=f"of {', '.join(every)}")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"), help="the document to write")
    options = parser.parse_args()
    kept = options.output.with_suffix(".json")
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in options.names or every:
        found = run(name)
        if not replaces(found, results.get(name)):
            print(f"{name}: not kept, for it ran under load and there is a run that did not", flush=True)
            continue
        results[name] = found
        kept.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        options.output.write_text(document(results), encoding="utf-8")
        if kept.samefile(pages.KEPT):
            pages.write(results)
    print(options.output)


def replaces(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    """Whether a result is kept in place of an earlier one; of one from before load was recorded nothing is known."""
    return not new["load"]["loaded"] or old is None or old.get("load", {"loaded": False})["loaded"]


def run(name: str) -> dict[str, Any]:
    """One benchmark in a process of its own: the JSON object of its last line, and when and how long it ran."""
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    with Load() as load:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"benchmark {name} failed with exit code {done.returncode}; its message is above")
    *printed, last = [line for line in done.stdout.strip().splitlines() if "[WARNING]" not in line]
    result: dict[str, Any] = json.loads(last)
    minutes, found = (time.monotonic() - began) / 60, load.to_json()
    marked = f", UNDER LOAD: others took {found['others_cores']} cores" if found["loaded"] else ""
    print(f"{name}: ratio {shown(result)}  ({minutes:.1f} min{marked})", flush=True)
    today = datetime.date.today().isoformat()
    return result | {"printed": printed, "date": today, "minutes": round(minutes, 1), "load": found}


def shown(result: Mapping[str, Any]) -> str:
    """The ratio, with its interval where pairs were measured in turn, and whether to believe it."""
    if "ratio" not in result:
        return "none"
    interval = " ({:,.2f} to {:,.2f})".format(*result["interval"]) if "interval" in result else ""
    loaded = ", under load" if result.get("load", {}).get("loaded") else ""
    return f"{result['ratio']:,.2f}{interval}{loaded}"


def document(results: Mapping[str, Any]) -> str:
    """The page: one table of ratios, then what each benchmark is and printed."""
    lines = [
        "# Benchmarks",
        "",
        "Each runs fipo and the peer in one run, on one machine, and compares them there; times of different runs are",
        "not compared. `make bench` runs them all and writes this page; `python -m benchmarks NAME` runs one again.",
        "With an interval the figure is the median of pairs run in turn (`benchmarks/pairs.py`), the interval that of",
        "the median; a run during which other processes took part of the machine says *under load*.",
        "",
        "| benchmark | against | times better | memory, ours over theirs |",
        "|---|---|---|---|",
    ]
    for name, peer in NAMES.items():
        if name in results:
            result = results[name]
            memory = f"{result['memory_ratio']:.2f}" if result.get("memory_ratio") else ""
            lines.append(f"| [`{name}`](#{name}) | {peer} | {shown(result)} | {memory} |")
    for name in NAMES:
        if name in results:
            lines += section(name, results[name])
    if "doors" in results:
        lines += of_the_doors(results["doors"], results.get("doors_before", {}))
    if "gpu" in results:
        lines += on_a_gpu(results["gpu"])
    return "\n".join(lines) + "\n"


def of_the_doors(result: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What the pipeline's tasks cost to start, beside what they did at an earlier commit, if that was kept."""
    head = ["task", *([f"CPU seconds, {before['commit']}"] if before else []), "CPU seconds", "modules"]
    rows = [
        [name, *([seconds(before["doors"][name])] if before else []), seconds(row), f"{row['modules']:,}"]
        for name, row in result["doors"].items()
    ]
    lines = [f"| {' | '.join(row)} |" for row in [head, *rows]]
    return [*section("doors", {**result, "printed": []}), lines[0], f"|{'---|' * len(head)}", *lines[1:]]


def seconds(row: Mapping[str, Any]) -> str:
    """The CPU time of a door."""
    return f"{row['cpu_seconds']:.2f}"


def on_a_gpu(result: Mapping[str, Any]) -> list[str]:
    """What was measured on a card, by hand from what `benchmarks.gpu` and the benchmarks said there."""
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    rows = [f"| {' | '.join(row)} |" for row in result["rows"]]
    return [
        *("", "## On a GPU", ""),
        *(f"{result['card']}, {result['date']}; {versions}. It reached {result['reached']}.", ""),
        *("| what | ours | theirs | |", "|---|---|---|---|", *rows, ""),
        result["not_run"],
    ]


def section(name: str, result: Mapping[str, Any]) -> list[str]:
    """What one benchmark does, where it ran, and what it printed."""
    about = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip()
    first, _, rest = about.partition("\n")
    text = "\n".join(line for line in rest.splitlines() if not line.startswith("    python -m")).strip()
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    others = result.get("load", {}).get("others_cores")
    busy = "" if others is None else f"; other processes took {others:g} cores"
    where = f"{result['date']}, {result['minutes']:g} minutes{busy}; {machine}; {versions}."
    printed = ["```text", *result["printed"], "```"] if result["printed"] else []
    return ["", f"## {name}", "", first, "", text, "", where, "", *printed]


if __name__ == "__main__":
    main()
