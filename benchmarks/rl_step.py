"""One RL step beside TRL's GRPOTrainer: generation, old log-probs and four optimizer updates.

    python -m benchmarks.rl_step [--json] [--steps 3]

Both start from the same folder (a Qwen3 with random weights, 5 million parameters), draw from the same 16 prompts of 16
to 32 tokens, 8 responses each, and end the i-th response after the same number of tokens: log-normal, median 48, at
most 256, so that most end early and a few run to the limit. Four updates of 32 responses follow, AdamW and float32 in
both, without checkpointing of activations, with the same bound on the tokens of a micro-batch (rows x longest row).
Ours learns with FIPO's loss, TRL with DAPO's. Each runs in a process of its own with as many threads; the memory is how
far the process grew after its imports: weights, gradients, optimizer, cache and activations.

`ratio` compares tokens a second of wall time, `cpu_ratio` of CPU time: on a busy machine that one, with --threads 1 and
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence, Sized
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.harness import PLAIN_TRL, context, peak_bytes
from fipo.batch import Prompt
from fipo.config import Config, Model
from fipo.models import load_model, load_tokenizer, save_model
from fipo.rewards.functions import Response
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import Sampling
from fipo.rollout.transformers import TransformersEngine

PROMPTS, GROUP, UPDATES, LONGEST_PROMPT, LONGEST_RESPONSE = 16, 8, 4, 32, 256
ROWS = PROMPTS * GROUP // UPDATES
"""Responses in one update."""
RATE = 1e-5


def settings(folder: Path, micro_rows: int) -> Config:
    words = [f"w{index}" for index in range(8190)]
    architecture = {"vocabulary": words, "hidden_size": 256, "intermediate_size": 704, "layers": 4}
    architecture |= {"attention_heads": 4, "key_value_heads": 2, "max_position_embeddings": 512}
    source = {"generator": {}, "limit": 1}
    return Config.model_validate(
        {
            "run": {"directory": str(folder)},
            "data": {"train": [source], "benchmarks": {"none": source}},
            "model": {"architecture": architecture},
            "train": {
                "prompts_per_step": PROMPTS,
                "mini_batch_prompts": PROMPTS // UPDATES,
                "dynamic_sampling": False,
                "learning_rate": RATE,
                "warmup_steps": 0,
                "max_tokens_per_micro_batch": micro_rows * (LONGEST_PROMPT + LONGEST_RESPONSE),
            },
            "rollout": {"group_size": GROUP, "max_response_tokens": LONGEST_RESPONSE},
            "reward": {"functions": {"benchmarks.rl_step:even_words": 1.0}},
        }
    )


def prompts() -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(2, 8192, size=random.integers(16, LONGEST_PROMPT + 1)).tolist() for _ in range(PROMPTS)]


def lengths(step: int) -> list[int]:
    """Tokens of each response of a step, in the order of the prompts."""
    drawn = np.random.default_rng((1, step)).lognormal(np.log(48), 0.8, PROMPTS * GROUP)
    clipped: list[int] = np.clip(drawn.astype(int), 4, LONGEST_RESPONSE).tolist()
    return clipped


def share_of_even_words(text: str) -> float:
    words = text.split()
    return sum(word[-1] in "02468" for word in words) / max(1, len(words))


def even_words(response: Response) -> float:
    """The reward of both: something that differs within a group and costs nothing."""
    return share_of_even_words(response.text)


class ScheduledEngine(TransformersEngine):
    """The embedded engine, with the length of each response given."""

    step = 0

    def _open(self, asked: Any, sampling: Sampling) -> Any:
        responses = super()._open(asked, sampling)
        for response, length in zip(responses, lengths(self.step), strict=True):
            response.limit = length
        return responses


def check(responses: Sequence[Sized], step: int) -> None:
    if [len(response) for response in responses] != lengths(step):
        raise RuntimeError(f"step {step}: the responses do not have the lengths that were asked for")


class Clock:
    """Wall and CPU seconds of each step, the warm-up first."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self._began = self._now()

    def tick(self) -> None:
        """A step has ended."""
        now = self._now()
        self.steps.append((now[0] - self._began[0], now[1] - self._began[1]))
        self._began = now
        print(
            f"step {len(self.steps) - 1}: {self.steps[-1][0]:.2f} s, {self.steps[-1][1]:.2f} s of CPU", file=sys.stderr
        )

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def run_fipo(folder: Path, steps: int, micro_rows: int) -> list[tuple[float, float]]:
    """The classes and calls of `fipo.training.rl.loop.reinforce`."""
    from fipo.distributed.bootstrap import join_world
    from fipo.distributed.engine import TrainingEngine
    from fipo.training.rl.advantages import with_advantages
    from fipo.training.rl.learner import Learner
    from fipo.training.rl.metrics import Updates
    from fipo.training.rl.sampling import PromptStream, collect
    from fipo.training.rl.timing import Timer

    config, start = settings(folder, micro_rows), Model(name_or_path=str(folder))
    tokenizer = load_tokenizer(start)
    asked = [Prompt(f"{index:04x}", "", tuple(ids), "0") for index, ids in enumerate(prompts())]
    with join_world(config.distributed, seed=0) as world:
        engine = TrainingEngine(load_model(start), config.train, config.distributed, world)
        learner = Learner(engine, config, tokenizer)
        rollout = ScheduledEngine(
            engine.model, eos_token_id=-1, pad_token_id=0, max_batch_tokens=config.rollout.max_batch_tokens
        )
        with Scorer(config.reward, max_response_tokens=LONGEST_RESPONSE, tokenizer=tokenizer) as scorer:
            clock = Clock()
            for step in range(steps + 1):
                # The prompts in their order, so that each has the lengths that it has in the peer.
                stream = PromptStream(asked, seed=0)
                stream.take = lambda count: asked[:count]  # type: ignore[method-assign]
                rollout.step = step
                timer, updates = Timer(), Updates()
                batch = with_advantages(collect(stream, rollout, scorer, config, world, step, timer))
                with timer("old_log_probs"):
                    mini_batches = learner.mini_batches(batch.groups)
                with timer("update"):
                    for mini_batch in mini_batches:
                        for micro_batch in mini_batch.micro_batches:
                            output = learner.loss(mini_batch, micro_batch)
                            engine.backward(output.loss)
                            updates.measured(output.measured)
                        updates.ended(engine.step())
                    updates.metrics(world)
                rollout.load_weights(engine.weights(), version=engine.steps_done)
                clock.tick()
                check([rollout.token_ids for group in batch.groups for rollout in group.rollouts], step)
                print(dict(timer.seconds), file=sys.stderr, flush=True)
    return clock.steps


def run_trl(folder: Path, steps: int, micro_rows: int) -> list[tuple[float, float]]:
    """Of four optimizer steps the first generates."""
    from datasets import Dataset
    from transformers import LogitsProcessor, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from trl import GRPOConfig, GRPOTrainer

    reward_calls = 0

    def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        nonlocal reward_calls
        check(completion_ids, reward_calls)
        reward_calls += 1
        return [share_of_even_words(text) for text in completions]

    class Stop(LogitsProcessor):
        """Ends row i after the given number of tokens, and no row earlier."""

        def __init__(self, step: int) -> None:
            self.last = torch.tensor(lengths(step)) - 1
            self.done = 0

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            ending = self.last == self.done
            scores[:, 1] = -torch.inf
            scores[ending] = -torch.inf
            scores[ending, 1] = 0.0
            self.done += 1
            return scores

    class Ticker(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.clock = Clock()

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            if state.global_step % UPDATES == 0:
                self.clock.tick()

    start = Model(name_or_path=str(folder))
    tokenizer = load_tokenizer(start)
    tokenizer.padding_side = "left"
    texts = [tokenizer.decode(ids) for ids in prompts()]
    accumulation = ROWS // micro_rows
    ticker = Ticker()
    trainer = GRPOTrainer(
        model=load_model(start),
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": texts}),
        callbacks=[ticker],
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=micro_rows,
            gradient_accumulation_steps=accumulation,
            steps_per_generation=accumulation * UPDATES,
            num_generations=GROUP,
            max_completion_length=LONGEST_RESPONSE,
            max_steps=UPDATES * (steps + 1),
            shuffle_dataset=False,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.1,
            max_grad_norm=1.0,
            temperature=1.0,
            epsilon_high=0.28,
            loss_type="dapo",
            **PLAIN_TRL,
        ),
    )
    generate, calls = trainer.model.generate, 0

    def scheduled(*arguments: Any, **options: Any) -> torch.Tensor:
        nonlocal calls
        output: torch.Tensor = generate(*arguments, logits_processor=[Stop(calls)], **options)
        calls += 1
        return output

    trainer.model.generate = scheduled
    trainer.train()
    return ticker.clock.steps


def measure(method: str, folder: Path, steps: int, micro_rows: int) -> dict[str, Any]:
    """Tokens per second of wall and of CPU time, the median of the steps, and how far memory grew."""
    found: dict[str, Any] = {}

    def run() -> None:
        found["seconds"], found["cpu_seconds"] = zip(*METHODS[method](folder, steps, micro_rows))

    for module in IMPORTS[method]:
        import_module(module)
    found["peak_bytes"] = peak_bytes(run)
    found["tokens"] = [sum(lengths(step)) for step in range(steps + 1)]
    for rate, clock in {"tokens_per_second": "seconds", "tokens_per_cpu_second": "cpu_seconds"}.items():
        found[rate] = median(tokens / spent for tokens, spent in list(zip(found["tokens"], found[clock]))[1:])
    return found


IMPORTS = {
    "fipo": ("fipo.training.rl.loop", "deepspeed", "transformers.models.qwen3.modeling_qwen3"),
    "trl": ("trl.trainer.grpo_trainer", "deepspeed", "transformers.models.qwen3.modeling_qwen3"),
}
METHODS: dict[str, Callable[[Path, int, int], list[tuple[float, float]]]] = {"fipo": run_fipo, "trl": run_trl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--steps", type=int, default=3, help="steps to measure, after one to warm up (default: 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side (default: all)")
    parser.add_argument(
        "--micro-rows",
        type=int,
        choices=[1, 2, 4, 8, 16, 32],
        default=8,
        help="rows of full length in a micro-batch (default: 8, which is TRL's)",
    )
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
        torch.set_num_threads(options.threads)
        print(json.dumps(measure(options.method, options.folder, options.steps, options.micro_rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        config = settings(Path(folder), options.micro_rows)
        save_model(load_model(config.model, seed=0), load_tokenizer(config.model), Path(folder))
        rows = {}
        for method in METHODS:
            command = [sys.executable, "-m", "benchmarks.rl_step", "--method", method, "--folder", folder]
            command += ["--steps", str(options.steps), "--threads", str(options.threads)]
            command += ["--micro-rows", str(options.micro_rows)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            rows[method] = json.loads(done.stdout.splitlines()[-1])
    ours, peer = rows["fipo"], rows["trl"]
    for method, row in rows.items():
        print(f"{method:10} {row['tokens_per_second']:8.0f} tokens/s {row['peak_bytes'] / 2**20:8.0f} MiB", flush=True)
    result = {
        "ratio": ours["tokens_per_second"] / peer["tokens_per_second"],
        "cpu_ratio": ours["tokens_per_cpu_second"] / peer["tokens_per_cpu_second"],
        "memory_ratio": ours["peak_bytes"] / peer["peak_bytes"],
        "measured": rows,
        **context(),
    }
    result["versions"] |= {name: version(name) for name in ("transformers", "trl", "deepspeed")}
    print(json.dumps(result) if options.json else f"ratio {result['ratio']:.2f}, memory {result['memory_ratio']:.2f}")


if __name__ == "__main__":
    main()
