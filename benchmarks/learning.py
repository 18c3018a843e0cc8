"""What is learnt from the same number of sampled tokens, and how fast, beside TRL's GRPOTrainer.

    python -m benchmarks.learning [--json] [--seeds 1 2 3] [--tokens 20000] [--recipe demo]

For each seed a model is warmed up on the recipe's demonstrations; four trainings start from it: ours with FIPO's loss,
with DAPO's, with DAPO's but without dynamic sampling (`dapo-all`), and TRL with the settings of the last. All take the
recipe's problems, verifier, group size, learning rate, its warm-up, clips, updates per batch and temperature, AdamW,
float32, one process and all cores, and end with the batch in which the budget of response tokens is spent; dynamic
sampling pays from it for the prompts that it leaves out. The seconds are those of the steps: without starting, and
without the validation at the end, which TRL does not have. Scores are of the recipe's held-out problems, 8 responses
each, sampled and verified alike.

`ratio` is TRL's seconds over those of `dapo-all`, the mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.harness import PLAIN_TRL, context
from fipo.config import Config, Model, load_config
from fipo.data.schema import Problem, read_problems, tokenize
from fipo.models import load_model, load_tokenizer
from fipo.rewards.pool import GraderPool
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.run.run import Run
from fipo.run.workspace import Workspace
from fipo.tracking import finished_runs

SAMPLES = 8
"""Responses to each held-out problem."""
OURS = {
    "fipo": [],
    "dapo": ["algorithm.loss=dapo"],
    "dapo-all": ["algorithm.loss=dapo", "train.dynamic_sampling=false"],
}
"""Our trainings, and their settings; the last does what TRL does."""
METRICS = ("rollout/sampled_tokens", "perf/step_seconds", "perf/evaluate_seconds")


def overrides(options: argparse.Namespace, seed: int, run: str) -> list[str]:
    return [
        f"run.directory={options.folder}",
        f"run.name=s{seed}-{run}",
        f"run.seed={seed}",
        "distributed.processes=1",
        "train.steps=1000",
        f"train.token_budget={options.tokens}",
        "train.evaluate_every=1000",
        "train.checkpoint_every=1000",
        *OURS.get(run, ()),
    ]


def fipo(step: str, options: argparse.Namespace, seed: int, run: str) -> Workspace:
    """One step of ours, in a process of its own."""
    settings = overrides(options, seed, run)
    command = [sys.executable, "-m", "fipo.cli", step, "--recipe", options.recipe]
    subprocess.run([*command, *(word for one in settings for word in ("--set", one))], check=True, stdout=sys.stderr)
    return Run(load_config(options.recipe, settings)).step(step)


def run_trl(config: Config, start: Path, problems: Sequence[Problem], out: Path) -> dict[str, float]:
    """Train with the recipe's settings and save to `out`; seconds and tokens."""
    from datasets import Dataset
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from trl import GRPOConfig, GRPOTrainer

    tokens = 0
    train, group = config.train, config.rollout.group_size
    rows = train.mini_batch_prompts * group

    def correct(completions: list[str], completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
        nonlocal tokens
        tokens += sum(len(ids) for ids in completion_ids)
        outcomes = pool.verify(list(zip(completions, answer, strict=True)))
        return [float(outcome == "correct") for outcome in outcomes]

    class Budget(TrainerCallback):
        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            batch_is_done = state.global_step % train.updates_per_step == 0
            assert train.token_budget is not None  # `overrides` sets it
            control.should_training_stop = batch_is_done and tokens >= train.token_budget

    tokenizer = load_tokenizer(Model(name_or_path=str(start)))
    tokenizer.padding_side = "left"
    with GraderPool(config.reward.workers, config.reward.timeout_seconds) as pool:
        trainer = GRPOTrainer(
            model=load_model(Model(name_or_path=str(start))),
            processing_class=tokenizer,
            reward_funcs=correct,
            train_dataset=Dataset.from_list([{"prompt": row.prompt, "answer": row.answer} for row in problems]),
            callbacks=[Budget()],
            args=GRPOConfig(
                output_dir=str(out / "trl"),
                seed=config.run.seed,
                per_device_train_batch_size=rows,
                gradient_accumulation_steps=1,
                steps_per_generation=train.updates_per_step,
                num_generations=group,
                max_completion_length=config.rollout.max_response_tokens,
                max_steps=10**6,
                learning_rate=train.learning_rate,
                lr_scheduler_type="constant_with_warmup",
                warmup_steps=train.warmup_steps,
                weight_decay=train.weight_decay,
                max_grad_norm=train.grad_clip,
                temperature=config.rollout.temperature,
                epsilon=config.algorithm.clip_low,
                epsilon_high=config.algorithm.clip_high,
                beta=0.0,
                loss_type="dapo",
                **PLAIN_TRL,
            ),
        )
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
    trainer.model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"seconds": seconds, "tokens": float(tokens)}


def score(config: Config, model: Path, problems: Sequence[Problem]) -> dict[str, float]:
    """Accuracy over all responses, and their mean length."""
    tokenizer = load_tokenizer(Model(name_or_path=str(model)))
    engine = TransformersEngine(
        load_model(Model(name_or_path=str(model))).eval(),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_batch_tokens=config.rollout.max_batch_tokens,
    )
    sampling = Sampling(SAMPLES, config.rollout.max_response_tokens, temperature=1.0, top_p=1.0, seed=0)
    groups = engine.generate([tokenize(problem, tokenizer, config.data) for problem in problems], sampling)
    responses = [(group.prompt.answer, rollout.token_ids) for group in groups for rollout in group.rollouts]
    texts = tokenizer.batch_decode([ids.tolist() for _, ids in responses], skip_special_tokens=True)
    with GraderPool(config.reward.workers, config.reward.timeout_seconds) as pool:
        outcomes = pool.verify([(text, answer) for text, (answer, _) in zip(texts, responses, strict=True)])
    return {
        "accuracy": mean(outcome == "correct" for outcome in outcomes),
        "response_tokens": mean(len(ids) for _, ids in responses),
    }


def measure(options: argparse.Namespace, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    fipo("prepare", options, seed, "start")
    warmed_up = fipo("sft", options, seed, "start")
    config = warmed_up.config
    start = warmed_up.fetch(warmed_up.result().outputs["model"], "model")
    dataset = warmed_up.input("prepare", "dataset")
    held_out = list(read_problems(next((dataset / "benchmarks").glob("*.parquet"))))
    yield "start", score(config, start, held_out)
    for name in OURS:
        variant = Run(load_config(options.recipe, overrides(options, seed, name)))
        variant.adopt(warmed_up.of_run, ("prepare", "sft"))
        trained = fipo("train", options, seed, name)
        result = trained.result()
        model = trained.fetch(result.outputs["model"], "model")
        run = trained.config.run.name
        sums = {
            metric: sum(series.values())
            for metric, series in finished_runs(trained.config.tracking_uri, "fipo/train", METRICS)[run].history.items()
        }
        seconds = sums["perf/step_seconds"] - sums["perf/evaluate_seconds"]
        spent = {"seconds": seconds, "tokens": sums["rollout/sampled_tokens"]}
        yield f"fipo, {name}", spent | score(config, model, held_out)
    out = options.folder / f"trl-{seed}"
    command = [sys.executable, "-m", "benchmarks.learning", "--trl", str(out), "--seeds", str(seed)]
    command += ["--recipe", options.recipe, "--tokens", str(options.tokens), "--folder", str(options.folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    yield "trl, dapo-all", json.loads(done.stdout.splitlines()[-1]) | score(config, out, held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(default: 1 2 3)")
    parser.add_argument("--tokens", type=int, default=20_000, help="response tokens to sample (default: 20,000)")
    parser.add_argument("--recipe", default="demo", help="(default: demo)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trl", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trl:
        workspace = Run(load_config(options.recipe, overrides(options, options.seeds[0], "dapo-all"))).step("train")
        problems = read_problems(workspace.input("prepare", "dataset") / "train.parquet")
        print(json.dumps(run_trl(workspace.config, workspace.input("sft", "model"), list(problems), options.trl)))
        return
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or Path(folder)
        for seed in options.seeds:
            for name, found in measure(options, seed):
                print(f"seed {seed}  {name:16} {_line(found)}", flush=True)
                rows[name].append(found)
    means = {name: {key: mean(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    for name, found in means.items():
        print(f"mean    {name:16} {_line(found)}", flush=True)
    pairs = zip(rows["trl, dapo-all"], rows["fipo, dapo-all"], strict=True)
    ratio, found_on = mean(trl["seconds"] / ours["seconds"] for trl, ours in pairs), context()
    found_on["versions"] |= {name: version(name) for name in ("transformers", "trl", "deepspeed")}
    print(json.dumps({"ratio": ratio, "measured": rows, **found_on}) if options.json else f"ratio {ratio:.2f}")


def _line(found: dict[str, float]) -> str:
    line = f"accuracy {found['accuracy']:.3f}  {found['response_tokens']:5.1f} tokens"
    return line + (f"  {found['tokens']:8,.0f} sampled in {found['seconds']:5.0f} s" if "tokens" in found else "")


if __name__ == "__main__":
    main()
