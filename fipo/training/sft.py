"""The supervised warm-up: cross-entropy on the response tokens of demonstrations.

torchrun --nproc-per-node N -m fipo.training.sft --config runs/NAME/config.yaml
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from fipo.config import Config
from fipo.data.schema import read_problems, tokenize
from fipo.distributed.engine import StepOutcome, TrainingEngine
from fipo.distributed.packing import plan_micro_batches
from fipo.models import load_model, load_stops, load_tokenizer
from fipo.models.lora import add_adapter
from fipo.models.stops import Stops
from fipo.training.admission import admit
from fipo.training.checkpointing import Checkpoints, LoopState
from fipo.training.job import Job, run_job
from fipo.training.publishing import publish, publish_adapter, publish_start
from fipo.training.rollback import RollBack
from fipo.training.rows import Row, pack_rows

SAID_SECONDS = 5.0
"""Time between two lines about progress."""


@dataclass(frozen=True, slots=True)
class SftState(LoopState):
    """Where the warm-up continues."""

    batches_drawn: int = 0
    """Cursor of the demonstrations; ahead of `step` after a return to a checkpoint."""


def train(job: Job) -> None:
    """Train `sft.steps` optimizer steps and publish the output `model`; no steps publish the model as it is."""
    config, world, settings = job.config, job.world, job.config.sft
    tokenizer = load_tokenizer(config.model)
    if settings.steps == 0:
        publish_start(job, tokenizer)
        return
    model = load_model(config.model, seed=config.run.seed, stored=config.distributed.zero_stage == 3)
    if config.model.lora:
        add_adapter(model, config.model.lora, seed=config.run.seed)
    dataset = job.input("prepare", "dataset")
    stops = load_stops(config.model, tokenizer)
    train_rows = _demonstrations(dataset / "sft.parquet", tokenizer, stops, config)
    held_out = _demonstrations(dataset / "sft-validation.parquet", tokenizer, stops, config)
    engine = TrainingEngine(model, settings, config.distributed, world)
    admit(job, engine, tokenizer, stops, [row.prompt_ids for row in train_rows])
    checkpoints = Checkpoints(job, engine, settings, SftState())
    roll_back = RollBack(job, engine, settings, checkpoints)
    state = checkpoints.resume(at_most=settings.steps)
    step, drawn = state.step, state.batches_drawn
    job.say(f"{len(train_rows)} demonstrations, {world.size} process(es), from step {step}")
    sizes = (tokenizer.pad_token_id, settings.max_tokens_per_micro_batch)

    said = job.meter.steps(step, settings.steps).at
    while step < settings.steps:
        step, drawn = step + 1, drawn + 1
        batch = [train_rows[index] for index in draw(len(train_rows), settings.batch_size, drawn, config.run.seed)]
        loss = cross_entropy(engine, batch, *sizes, learn=True)
        outcome, last = engine.step(), step == settings.steps
        if roll_back.due:
            step = roll_back.before(step).step  # but the batches that led here stay behind
            continue
        metrics = _metrics(engine, outcome, loss)
        if held_out and (step % settings.evaluate_every == 0 or last):
            metrics["sft/validation_loss"] = cross_entropy(engine, held_out, *sizes, learn=False)
        job.log(metrics, step)
        pace = job.meter.steps(step, settings.steps)
        if pace.at - said > SAID_SECONDS or last:
            said, left = pace.at, f"{pace.seconds_left or 0:.0f} s left"
            job.say(f"step {step}/{settings.steps}  loss {loss:.4f}  {pace.speed}  {left}")
        checkpoints.reached(SftState(step, drawn), score=_score(metrics))
    checkpoints.close()
    publish(job, model, tokenizer, engine.state_dict(), config.model)
    publish_adapter(job, engine, base=config.model.name_or_path)


def _score(metrics: Mapping[str, float]) -> float | None:
    return -metrics["sft/validation_loss"] if "sft/validation_loss" in metrics else None


def _metrics(engine: TrainingEngine, outcome: StepOutcome, loss: float) -> dict[str, float]:
    metrics = {"sft/skipped_updates": float(outcome.skipped)}
    metrics |= {f"sft/{name}": value for name, value in engine.expert_load().items()}
    if not outcome.skipped:
        metrics |= {"sft/loss": loss, "sft/grad_norm": outcome.grad_norm, "sft/learning_rate": engine.learning_rate}
    return metrics


def cross_entropy(
    engine: TrainingEngine, rows: Sequence[Row], pad_token_id: int, max_tokens: int, *, learn: bool
) -> float:
    """Mean negative log-likelihood of the response tokens over all ranks; with `learn`, its gradient is accumulated.

    Where the configuration of a mixture of experts asks for it, the gradient is that of the load-balancing loss too,
    each micro-batch's weighted with its share of the tokens.
    """
    world, total = engine.world, 0.0
    num_loss_tokens = sum(len(row.response_ids) for row in rows)
    plan = plan_micro_batches(
        [len(row) for row in rows],
        ranks=engine.sequence.data_ranks,
        max_tokens=max_tokens,
        attention_parity=engine.attention_parity,
    )
    for indices in plan[engine.sequence.data_rank]:
        packed = pack_rows([rows[index] for index in indices], pad_token_id, multiple_of=engine.sequence.size)
        with torch.set_grad_enabled(learn):
            log_probs, _ = engine.log_probs(engine.sequence.shard(packed).to(world.device))
        loss = -log_probs.sum() / num_loss_tokens
        if learn:
            balance = engine.balance
            share = sum(packed.lengths) / sum(map(len, rows))
            engine.backward(loss if balance is None else loss + share * balance)
        total += loss.item()
    return float(world.sum([total])[0])


def draw(rows: int, batch_size: int, number: int, seed: int) -> list[int]:
    """Indices of batch `number` (from 1): each epoch is a permutation of its own; batches run across epochs."""
    positions = range((number - 1) * batch_size, number * batch_size)
    order = {epoch: np.random.default_rng((seed, epoch)).permutation(rows) for epoch in {p // rows for p in positions}}
    return [int(order[position // rows][position % rows]) for position in positions]


def _demonstrations(path: Path, tokenizer: PreTrainedTokenizerBase, stops: Stops, config: Config) -> list[Row]:
    end = stops.after(chat=config.data.chat)
    return [
        Row(
            tokenize(problem, tokenizer, config.data).token_ids,
            np.asarray([*tokenizer(problem.response, add_special_tokens=False).input_ids, end], np.int32),
        )
        for problem in read_problems(path)
    ]


if __name__ == "__main__":
    run_job("sft", train)
