"""One benchmark, answered greedily and graded twice: by fipo and by EleutherAI's lm-evaluation-harness.

    python -m venv lm-eval && lm-eval/bin/pip install 'lm-eval[hf]==0.4.13'
    python -m benchmarks.cross_check runs/demo --lm-eval lm-eval/bin/python [--json]

The two share the weights and the problems, and nothing else: the harness has its own generation and its own grading
(a regular expression, `benchmarks/lm_eval_tasks`). It lives in an environment of its own, for it wants many packages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from fipo.config import Config, Model, load_config
from fipo.data.schema import Problem, read_problems, render, tokenize
from fipo.evaluation.benchmark import evaluate
from fipo.models import load_model, load_tokenizer
from fipo.rewards.pool import GraderPool
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.run.run import Run

TASKS = Path(__file__).parent / "lm_eval_tasks"
TASK = "fipo_running_sums"
BENCHMARK = "running-sums"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run of the demo")
    parser.add_argument("--step", choices=("sft", "train"), default="sft", help="whose model (default: %(default)s)")
    parser.add_argument("--lm-eval", required=True, help="Python interpreter that has lm-eval")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    config = load_config(options.run / "config.yaml")
    workspace = Run(config).step("evaluate")
    model = workspace.input(options.step, "model")
    problems = read_problems(workspace.input("prepare", "dataset") / "benchmarks" / f"{BENCHMARK}.parquet")
    ours = graded_by_fipo(config, model, problems)
    with tempfile.TemporaryDirectory() as folder:
        theirs, harness = graded_by_lm_eval(options.lm_eval, config, model, problems, Path(folder))
    agreed = sum(one == other for one, other in zip(ours, theirs, strict=True))
    print(f"{BENCHMARK}: {len(ours)} problems; fipo {sum(ours)} right, lm-eval {sum(theirs)}; {agreed} verdicts agree")
    if options.json:
        result = {
            "problems": len(ours),
            "fipo": sum(ours) / len(ours),
            "lm_eval": sum(theirs) / len(theirs),
            "agreement": agreed / len(ours),
            "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "versions": {"lm_eval": harness, **{name: version(name) for name in ("fipo", "torch", "transformers")}},
        }
        print(json.dumps(result))


def graded_by_fipo(config: Config, folder: Path, problems: list[Problem]) -> list[bool]:
    """Whether the greedy answer to each problem is right, in their order."""
    model, data = Model(name_or_path=str(folder)), config.data.asked_as(BENCHMARK)
    tokenizer = load_tokenizer(model)
    engine = TransformersEngine(
        load_model(model),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_batch_tokens=config.rollout.max_batch_tokens,
    )
    with GraderPool(1, config.reward.timeout_seconds) as pool, torch.no_grad():
        result = evaluate(
            BENCHMARK,
            [tokenize(problem, tokenizer, data) for problem in problems],
            engine,
            sampling=Sampling(1, config.rollout.max_response_tokens, temperature=0.0),
            tokenizer=tokenizer,
            graders=pool,
        )
    return [problem.correct == 1 for problem in result.problems]


def graded_by_lm_eval(
    python: str, config: Config, model: Path, problems: list[Problem], folder: Path
) -> tuple[list[bool], str]:
    """The same from the harness, and its version."""
    tokenizer, data = load_tokenizer(Model(name_or_path=str(model))), config.data.asked_as(BENCHMARK)
    rows = [{"prompt": render(one.prompt, tokenizer, data), "answer": one.answer} for one in problems]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [python, "-m", "lm_eval", "--model", "hf", "--tasks", TASK, "--include_path", str(TASKS)]
    command += ["--model_args", f"pretrained={model.absolute()},dtype=float32", "--device", "cpu", "--batch_size", "32"]
    command += ["--output_path", str(folder / "out"), "--log_samples"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"lm_eval failed:\n{done.stderr[-3000:]}")
    (samples,) = folder.glob("out/**/samples_*.jsonl")
    found = {row["doc_id"]: row["exact_match"] == 1.0 for row in map(json.loads, samples.read_text().splitlines())}
    command = [python, "-c", "from importlib.metadata import version; print(version('lm_eval'))"]
    return [found[index] for index in range(len(problems))], subprocess.check_output(command, text=True).strip()


if __name__ == "__main__":
    main()
