"""The parts of the loop, opened from a job's settings and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from fipo.algorithm.fused import kernel_fault
from fipo.algorithm.options import LossOptions
from fipo.batch import Prompt
from fipo.config import Config, Model
from fipo.data.schema import read_problems, tokenize
from fipo.distributed.engine import TrainingEngine, weights_dtype
from fipo.environments.notice import notice
from fipo.models import load_model, load_stops, load_tokenizer, positions_of
from fipo.models.lora import add_adapter
from fipo.rewards.scorer import Scorer
from fipo.rollout.engine import RolloutEngine
from fipo.rollout.factory import open_engine
from fipo.training.admission import admit
from fipo.training.checkpointing import Checkpoints
from fipo.training.job import Job
from fipo.training.publishing import publish, publish_adapter
from fipo.training.rl.batches import RolloutBatches, batches_ahead
from fipo.training.rl.learner import Learner, MiniBatch
from fipo.training.rl.log import StepLog
from fipo.training.rl.metrics import Updates
from fipo.training.rl.records import Records
from fipo.training.rl.sampling import PromptStream, RolloutBatch, collect
from fipo.training.rl.signal import SignalWatch
from fipo.training.rl.state import Budget, RlState
from fipo.training.rl.timing import Timer
from fipo.training.rl.unfinished import Unfinished
from fipo.training.rl.validation import Validation
from fipo.training.rollback import RollBack


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with."""

    job: Job
    options: LossOptions
    tokenizer: PreTrainedTokenizerBase
    engine: TrainingEngine
    learner: Learner
    rollout: RolloutEngine
    scorer: Scorer
    batches: RolloutBatches
    validation: Validation
    budget: Budget
    checkpoints: Checkpoints[RlState]
    roll_back: RollBack[RlState]
    signal: SignalWatch
    records: Records
    log: StepLog

    def load_weights(self) -> None:
        """Have the rollout engine sample with the weights as they are."""
        self.rollout.load_weights(self.engine.weights(), version=self.engine.steps_done)

    def next_batch(self, step: int, timer: Timer) -> RolloutBatch:
        """The batch of the step: made now, or waited for, which a stop request ends."""
        if self.batches.begun:
            with timer("wait"):
                self.job.world.wait_or_stop(self.batches.wait)
        return self.batches.take(step, timer)

    def sync(self, timer: Timer) -> None:
        """The same at the end of a step: when no batch is being made with the weights before, or goes on with these."""
        if not self.rollout.continues:
            self._settle(timer)
        with timer("sync"):
            self.load_weights()

    def _settle(self, timer: Timer) -> None:
        with timer("wait"):
            self.job.world.wait_or_stop(self.batches.settle)

    def evaluate(self, step: int, timer: Timer) -> dict[str, float]:
        """Measure the policy on the validation problems, and keep the first answers; collective."""
        if self.rollout.continues:
            self._settle(timer)  # the engine is for one kind of prompts at a time
        found = self.validation.measure(timer)
        self.records.answers(step, self.validation.newest)
        return found

    def unfinished(self, state: RlState) -> Unfinished | None:
        """What the checkpoint of a step that was left between two of its updates has kept of it."""
        world = self.job.world
        return Unfinished.read(self.checkpoints.extra(), world.rank, world.size) if state.updates else None

    def between(self, state: RlState, batch: RolloutBatch, updates: Updates, left: Sequence[MiniBatch]) -> None:
        """Save here, and end, where that is asked for; `left` are the updates that are still to come.

        Ahead the next batches are being sampled, which no checkpoint holds: there a stop waits for the step.
        """
        if not self.job.config.rollout.max_staleness:
            self.checkpoints.between(
                state.within(batch, updates.done),
                lambda: Unfinished(batch, updates, self.learner.old_policy(left), self.learner.traces_so_far()).tensors(
                    is_main=self.job.world.is_main
                ),
            )

    def return_to_checkpoint(self, step: int) -> RlState:
        """Go back to before `step`, whose updates were left out."""
        self.batches.discard()
        state = self.roll_back.before(step)
        self.load_weights()
        return state

    def publish(self) -> None:
        """Wait for what is still under way, and publish the outputs of the step."""
        job = self.job
        self.checkpoints.close()
        self.rollout.close()
        job.say(f"every response: {job.workspace.store.uri}/{job.workspace.rollouts_prefix}/")
        start = Model(name_or_path=str(job.workspace.input_folder("sft", "model")))
        publish(job, self.engine.model, self.tokenizer, self.engine.state_dict(), start)
        publish_adapter(job, self.engine, base=job.workspace.upstream["sft"].outputs["model"].uri)
        self.records.publish()


def open_parts(job: Job) -> tuple[Parts, RlState]:
    """The parts, and the state of the newest checkpoint, which is restored in them."""
    config, world, settings = job.config, job.world, job.config.train
    _warn(job)
    dataset, warmed_up = job.input("prepare", "dataset"), job.input("sft", "model")
    start = Model(name_or_path=str(warmed_up))
    tokenizer = load_tokenizer(start)
    problems = _prompts(dataset / "train.parquet", tokenizer, config)
    held_out = _prompts(dataset / "validation.parquet", tokenizer, config)[: settings.evaluate_problems]
    dtype, in_parts = weights_dtype(config.distributed, world.device), config.distributed.zero_stage == 3
    model = load_model(start, dtype=dtype, stored=in_parts)
    if config.model.lora:
        add_adapter(model, config.model.lora, seed=config.run.seed)
    engine = TrainingEngine(model, settings, config.distributed, world, temperature=config.rollout.temperature)
    rollout = _open_rollout(config, warmed_up, tokenizer, engine)
    records = Records(job, tokenizer)
    checkpoints = Checkpoints(job, engine, settings, RlState(), written=records.settle)
    state = checkpoints.resume(at_most=settings.steps)
    stream = PromptStream(problems, seed=config.run.seed, position=state.prompts_drawn)
    scorer = Scorer(
        config.reward,
        max_response_tokens=config.rollout.max_response_tokens,
        tokenizer=tokenizer,
        context=positions_of(model.config),
    )
    parts = Parts(
        job=job,
        options=config.algorithm,
        tokenizer=tokenizer,
        engine=engine,
        learner=Learner(engine, config, tokenizer),
        rollout=rollout,
        scorer=scorer,
        batches=_batches(job, stream, rollout, scorer),
        validation=Validation(held_out, rollout, scorer, config, world, job.part),
        budget=Budget(settings),
        checkpoints=checkpoints,
        roll_back=RollBack(job, engine, settings, checkpoints),
        signal=SignalWatch(job, settings, tokenizer),
        records=records,
        log=StepLog(job, config.algorithm, config.rollout.mismatch_limit),
    )
    admit(job, engine, tokenizer, load_stops(start, tokenizer), [prompt.token_ids for prompt in problems], rollout)
    parts.load_weights()
    job.say(f"{len(problems)} problems, {world.size} process(es), from step {state.step}")
    job.meter.steps(state.step, settings.steps)
    return parts, state


def _warn(job: Job) -> None:
    if said := notice(job.config, "data.train"):
        job.say(said)
    device = job.world.device
    if device.type == "cuda" and (fault := kernel_fault(device)):
        job.say(
            f"warning: log-probs and Future-KL are computed by torch, for Triton's kernels do not run here ({fault})"
        )


def _open_rollout(
    config: Config, warmed_up: Path, tokenizer: PreTrainedTokenizerBase, engine: TrainingEngine
) -> RolloutEngine:
    return open_engine(
        config,
        warmed_up,
        tokenizer,
        dtype=engine.dtype,
        device=engine.world.device,
        rank=engine.world.rank,
        # ZeRO-3 leaves each rank a part of the trained model, and weights in training cannot sample: take a copy.
        trained=None if engine.zero_stage == 3 or config.rollout.max_staleness else engine.model,
    )


def _batches(job: Job, stream: PromptStream, rollout: RolloutEngine, scorer: Scorer) -> RolloutBatches:
    config, settings, most = job.config, job.config.train, job.config.rollout.max_staleness
    ranks = job.world.aside(config.distributed.timeout_seconds) if most else job.world
    return RolloutBatches(
        lambda step, timer: collect(stream, rollout, scorer, config, ranks, step, timer, job.part),
        ahead=partial(batches_ahead, most=most, steps=settings.steps, checkpoint_every=settings.checkpoint_every),
    )


def _prompts(path: Path, tokenizer: PreTrainedTokenizerBase, config: Config) -> list[Prompt]:
    return [tokenize(problem, tokenizer, config.data) for problem in read_problems(path)]
