"""The RL loop of FIPO (arXiv 2603.19835): generate, verify, advantages, old log-probs, updates, sync."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from fipo.batch import Prompt
from fipo.config import Config, Model
from fipo.data.schema import read_problems, tokenize
from fipo.distributed.bootstrap import World
from fipo.distributed.engine import TrainingEngine
from fipo.errors import TrainingError
from fipo.models import load_model, load_stops, load_tokenizer, save_model
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.factory import open_engine
from fipo.training.admission import admit, mismatch_warning
from fipo.training.checkpointing import Checkpoints
from fipo.training.job import Job
from fipo.training.rl.batches import RolloutBatches
from fipo.training.rl.metrics import progress_line, rollout_metrics, staleness_metrics, validation_metrics
from fipo.training.rl.records import keep_rollouts
from fipo.training.rl.sampling import PromptStream, collect, generate_and_score
from fipo.training.rl.timing import Timer
from fipo.training.rl.update import Updater


def train(job: Job) -> None:
    """Train `train.steps` rollout batches from the warmed-up model and publish the outputs `model` and `records`."""
    config, world, settings = job.config, job.world, job.config.train
    dataset, warmed_up = job.input("prepare", "dataset"), job.input("sft", "model")
    start = Model(name_or_path=str(warmed_up))
    tokenizer = load_tokenizer(start)
    prompts = _prompts(dataset / "train.parquet", tokenizer, config)
    validation = _prompts(dataset / "validation.parquet", tokenizer, config)[: settings.evaluate_problems]
    engine = TrainingEngine(
        load_model(start), settings, config.distributed, world, temperature=config.rollout.temperature
    )
    updater = Updater(engine, config, tokenizer)
    rollout = open_engine(
        config,
        warmed_up,
        tokenizer,
        dtype=engine.dtype,
        device=world.device,
        rank=world.rank,
        # ZeRO-3 leaves each rank a part of the trained model, and weights in training cannot sample: take a copy.
        trained=None if engine.zero_stage == 3 or config.rollout.one_step_ahead else engine.model,
    )
    checkpoints = Checkpoints(job, engine, settings)
    start_of_run = {"step": 0, "prompts_drawn": 0, "tokens_sampled": 0, "evaluation_due": False}
    state = checkpoints.resume(start_of_run, at_most=settings.steps)
    stream = PromptStream(prompts, seed=config.run.seed, position=state["prompts_drawn"])
    admit(job, engine, tokenizer, load_stops(start, tokenizer), [prompt.token_ids for prompt in prompts], rollout)
    rollout.load_weights(engine.weights(), version=engine.steps_done)
    step, tokens, budget = state["step"], state["tokens_sampled"], settings.token_budget or math.inf
    job.say(f"{len(prompts)} problems, {world.size} process(es), from step {step}")

    scorer = Scorer(config.reward, max_response_tokens=config.rollout.max_response_tokens, tokenizer=tokenizer)
    ahead = config.rollout.one_step_ahead
    ranks = world.aside(config.distributed.timeout_seconds) if ahead else world
    batches = RolloutBatches(
        lambda step, timer: collect(stream, rollout, scorer, config, ranks, step, timer),
        begins_next=lambda step: ahead and step < settings.steps and step % settings.checkpoint_every != 0,
    )
    with scorer, checkpoints.save_on_stop():
        if state["evaluation_due"]:  # it was stopped between the updates of this step and their evaluation
            job.log(_validate(validation, rollout, scorer, config, world), step)
        while step < settings.steps and tokens < budget:
            step += 1
            timer = Timer()
            batch = batches.take(step, timer)
            metrics = rollout_metrics(batch) | staleness_metrics(batch, engine.steps_done)
            if batch.groups:
                rollout.sleep()
                metrics |= updater.update(batch.groups, timer)
                gap = metrics.get("train/mismatch_log_prob_gap_mean", 0.0)
                for warning in filter(None, [*updater.warnings, mismatch_warning(gap, config.rollout.mismatch_limit)]):
                    job.say(f"warning: {warning}")
            elif not any(score.accuracy for group in batch.sampled for score in group.scores):
                raise TrainingError(
                    f"step {step}: none of {len(batch.sampled)} prompts has a correct response, so there is nothing to "
                    "learn from: warm up longer (sft.steps), take easier problems, or raise rollout.group_size"
                )
            if checkpoints.should_roll_back():
                batches.discard()
                state = checkpoints.roll_back(step)
                step, tokens = state["step"], state["tokens_sampled"]  # but the prompts that led here stay behind
                rollout.load_weights(engine.weights(), version=engine.steps_done)
                continue
            tokens += int(metrics["rollout/sampled_tokens"])
            last = step == settings.steps or tokens >= budget
            evaluation_due = last or step % settings.evaluate_every == 0
            with timer("record"):
                scale = updater.options.scale_by_std
                keep_rollouts(job, step, batch, tokenizer, scale_by_std=scale, show=evaluation_due)
            job.log(metrics, step)
            state = {"step": step, "prompts_drawn": batch.prompts_drawn, "tokens_sampled": tokens}
            checkpoints.mark({**state, "evaluation_due": evaluation_due})
            with timer("wait"):
                world.wait_or_stop(batches.settle)
            with timer("sync"):
                rollout.load_weights(engine.weights(), version=engine.steps_done)
            validated = {}
            if evaluation_due:
                with timer("evaluate"):
                    validated = _validate(validation, rollout, scorer, config, world)
            job.log(validated | timer.metrics(), step)
            job.say(progress_line(step, settings.steps, metrics | validated | timer.metrics()))
            updater.write_sample(job, step)
            score = validated.get("validation/accuracy")
            checkpoints.reached({**state, "evaluation_due": False}, score=score, last=last)
    checkpoints.close()
    rollout.close()
    job.say(f"every response: {job.workspace.store.uri}/{job.workspace.rollouts_prefix}/")
    weights = engine.state_dict()
    if job.attempt:
        save_model(engine.model, tokenizer, job.workspace.directory / "model", weights)
        job.attempt.publish("model", job.workspace.directory / "model")
        shutil.copyfile(
            job.workspace.directory / "journal.jsonl", job.workspace.directory / "records" / "journal.jsonl"
        )
        job.attempt.publish("records", job.workspace.directory / "records")


def _prompts(path: Path, tokenizer: PreTrainedTokenizerBase, config: Config) -> list[Prompt]:
    return [tokenize(problem, tokenizer, config.data) for problem in read_problems(path)]


def _validate(
    validation: Sequence[Prompt], rollout: RolloutEngine, scorer: Scorer, config: Config, world: World
) -> dict[str, float]:
    return validation_metrics(generate_and_score(validation, rollout, scorer, _one_each(config), world, Timer()))


def _one_each(config: Config) -> Sampling:
    """One response to each validation problem, the same draws at every step, so that only the policy differs."""
    return Sampling(
        group_size=1,
        max_response_tokens=config.rollout.max_response_tokens,
        temperature=config.evaluation.temperature,
        top_p=config.evaluation.top_p,
        seed=config.run.seed,
    )
