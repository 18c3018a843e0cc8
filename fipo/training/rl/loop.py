"""The RL loop of FIPO (arXiv 2603.19835)."""

from __future__ import annotations

from dataclasses import replace

from fipo.training.job import Job
from fipo.training.rl.advantages import with_advantages
from fipo.training.rl.metrics import expert_metrics, rollout_metrics
from fipo.training.rl.parts import Parts, open_parts
from fipo.training.rl.records import ANSWERED
from fipo.training.rl.state import RlState
from fipo.training.rl.timing import Timer
from fipo.training.rl.unfinished import Unfinished


def train(job: Job) -> None:
    """Train `train.steps` rollout batches from the warmed-up model and publish the outputs `model` and `records`."""
    parts, state = open_parts(job)
    with parts.scorer, parts.checkpoints.save_on_stop():
        if state.evaluation_due:  # it was stopped between the updates of this step and their evaluation
            job.log(parts.evaluate(state.step, Timer()), state.step)
        if state.step == 0:
            parts.records.answers(0, parts.validation.ask(ANSWERED))
        reinforce(parts, state)
    parts.publish()


def reinforce(parts: Parts, state: RlState) -> None:
    """FIPO: each turn is one rollout batch and the policy updates on it, until the budget is spent."""
    engine, learner, log = parts.engine, parts.learner, parts.log
    while not parts.budget.spent(state):
        step, timer = state.step + 1, Timer()
        begun = parts.unfinished(state)  # where the step was left between two of its updates
        if begun is None:
            drawn = parts.next_batch(step, timer)  # draw, generate, verify: `sampling.collect`
            begun = Unfinished(with_advantages(drawn, scale_by_std=parts.options.scale_by_std))  # Eq. 1
        batch, updates = begun.batch, begun.updates
        metrics = rollout_metrics(batch, engine.steps_done - updates.taken)
        parts.rollout.sleep()
        with timer("old_log_probs"):
            mini_batches = learner.mini_batches(batch.groups, updates.done, begun.old_policy, begun.traces)
        timer.shared("update", learner.work)
        with timer("update"):
            for left, mini_batch in zip(range(len(mini_batches) - 1, -1, -1), mini_batches, strict=True):
                for micro_batch in mini_batch.micro_batches:
                    output = learner.loss(mini_batch, micro_batch)  # Eq. 8
                    engine.backward(output.loss)
                    updates.measured(output.measured)
                updates.ended(engine.step())
                if left:
                    parts.between(state, batch, updates, mini_batches[-left:])
            metrics |= updates.metrics(engine.world) | expert_metrics(engine)
            metrics["train/learning_rate"] = engine.learning_rate
        if parts.roll_back.due:
            state = parts.return_to_checkpoint(step)  # but the prompts that led here stay behind
            continue
        state = state.after(batch)
        last = parts.budget.spent(state)
        evaluate = parts.validation.due(step, last=last)
        with timer("record"):
            parts.records.keep(step, batch, learner.traces(), show=evaluate)
        log.learned(step, metrics, updates.reduced)
        parts.signal.check(state, batch)
        parts.checkpoints.mark(replace(state, evaluation_due=evaluate))
        parts.sync(timer)
        validation = parts.evaluate(step, timer) if evaluate else {}
        log.ended(step, metrics, validation, timer)
        parts.checkpoints.reached(state, score=validation.get("validation/accuracy"), last=last)
