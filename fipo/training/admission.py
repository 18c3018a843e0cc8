"""Admission: before the first update, trainer, engine and transformers' own forward must agree about the model.

Rows are real prompts with responses of the rollout engine, and one as long as the recipe allows. Of each, the last
positions are compared. Everything is measured on the model, tokenizer, engine and device of the run, in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.config import Config
from fipo.distributed.engine import TrainingEngine
from fipo.errors import AdmissionError, FipoError
from fipo.models import positions_of
from fipo.models.lora import shown
from fipo.models.precision import rotary_error
from fipo.models.stops import Stops
from fipo.records import Admission, Measurement
from fipo.rollout.engine import RolloutEngine
from fipo.training.comparisons import ANGLE_LIMIT, compare, samples_of
from fipo.training.job import Job


def admit(
    job: Job,
    engine: TrainingEngine,
    tokenizer: PreTrainedTokenizerBase,
    stops: Stops,
    prompts: Sequence[Sequence[int]],
    rollout: RolloutEngine | None = None,
) -> Admission:
    """Measure, tell of it (log, MLflow's `admission.json`, the step's record) and refuse; collective.

    Args:
        job: whose settings count.
        engine: before its first update, or anywhere between two.
        tokenizer: of the model.
        stops: the tokens that end a response.
        prompts: token ids of the training data's prompts, at least one.
        rollout: samples the responses; it is given the trainer's weights, and asleep afterwards. None compares the
            trainer with transformers alone, on prompts alone.

    Raises:
        AdmissionError: a figure is beyond its limit.
    """
    began = time.monotonic()
    token_checks = _token_checks(engine.model, tokenizer, stops, prompts, rollout)
    longest = _longest(engine.model, job.config)
    checks = [*token_checks, _angle_check(engine, longest)]
    (wrong,) = engine.world.max([not all(check.passed for check in checks)])
    if not wrong:  # else it cannot be asked, or answers wrong
        with _answers(engine.model), shown(engine.model, engine.whole):
            samples = samples_of(engine, job.config, stops, prompts, longest, rollout)
            checks += compare(engine, job.config, samples, stops)
    figures = engine.world.max([np.nan_to_num(check.figure, nan=np.inf) for check in checks]).tolist()
    admission = Admission(
        model=engine.model.config.model_type,
        precision=str(engine.dtype).removeprefix("torch."),
        device=str(engine.world.device),
        head=str(engine.module.head or "its own"),
        stops=stops.names(tokenizer),
        positions=longest,
        seconds=time.monotonic() - began,
        fallbacks=tuple(engine.module.fallbacks),
        checks=tuple(Measurement(c.name, figure, c.limit, c.unit, c.fault) for c, figure in zip(checks, figures)),
    )
    _tell(job, admission)
    if admission.failed:
        faults = (
            f"  {one.name}: must be at most {one.limit:g} {one.unit}; measured {one.figure:.3g}: {one.fault}"
            for one in admission.failed
        )
        raise AdmissionError("\n".join([f"{admission.model} is not admitted to training:", *faults]))
    return admission


def _tell(job: Job, admission: Admission) -> None:
    job.say(_line(admission))
    job.say(f"stops at: {admission.stops}")
    if job.attempt:
        job.attempt.tracker.table(admission.table(), "admission.json")
        job.attempt.record(admission)


def mismatch_warning(gap: float, limit: float) -> str | None:
    """Says so when trainer and engine, on the same weights, are further apart than the run allows.

    Args:
        gap: mean distance of their log-probs over the tokens of a step, in nats (`train/mismatch_log_prob_gap_mean`).
        limit: `rollout.mismatch_limit`.
    """
    if gap <= limit:
        return None
    return (
        f"the log-probs of trainer and rollout engine are {gap:.3g} nats apart in the mean (rollout.mismatch_limit is "
        f"{limit:g}): the responses come from another policy than the one that is trained. Do both compute in the same "
        "precision, and has the engine the weights of this step?"
    )


@contextmanager
def _answers(model: PreTrainedModel) -> Iterator[None]:
    """A model that cannot be asked is refused like one that answers wrong: its own code, or the engine's use of it,
    raises whatever it happens on."""
    try:
        yield
    except (FipoError, torch.OutOfMemoryError, torch.distributed.DistError):
        raise
    except (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise AdmissionError(
            f"{model.config.model_type} is not admitted to training: asked for log-probs of some rows, the model, or "
            f"the rollout engine with it, ended in {type(error).__name__}: {error}"
        ) from error


def _line(admission: Admission) -> str:
    figures = ", ".join(f"{check.name} {check.figure:.1e}" for check in admission.checks if check.unit == "nats")
    return (
        f"admission of {admission.model} ({admission.precision}, {admission.device}, head {admission.head}, "
        f"{admission.positions:,} positions, {admission.seconds:.1f} s), apart in nats: {figures}"
    )


def _token_checks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stops: Stops,
    prompts: Sequence[Sequence[int]],
    rollout: RolloutEngine | None,
) -> list[Measurement]:
    embedded = min(model.get_input_embeddings().num_embeddings, model.get_output_embeddings().out_features)
    largest = max(*tokenizer.get_vocab().values(), tokenizer.pad_token_id, *stops.ids)
    ended = [prompt for prompt in prompts if prompt[-1] in stops.ids]
    missing = {*stops.ids} - rollout.stop_ids if rollout else set()
    return [
        Measurement(
            *("embedding", max(0, largest + 1 - embedded), 0, "tokens without a row"),
            f"the tokenizer has tokens up to {largest}, and the model's embedding and head {embedded} rows: take the "
            "tokenizer that was made for the model",
        ),
        Measurement(
            *("prompts", len(ended), 0, "prompts that end with a stop token"),
            "the tokenizer, or its chat template, appends an end: set add_eos_token to false in tokenizer_config.json, "
            "or mend the post_processor in tokenizer.json, or the template",
        ),
        Measurement(
            *("stop tokens", len(missing), 0, "unknown to the engine"),
            f"of {stops.names(tokenizer)} the engine does not stop at {', '.join(map(str, sorted(missing)))}, so that "
            "responses run past their end",
        ),
    ]


def _angle_check(engine: TrainingEngine, longest: int) -> Measurement:
    return Measurement(
        *("rotary angles", rotary_error(engine.model, longest), ANGLE_LIMIT, "radians"),
        f"the frequencies of the rotary embedding were rounded: at position {longest:,} the angles are wrong",
    )


def _longest(model: PreTrainedModel, config: Config) -> int:
    """Tokens of the longest prompt and response."""
    longest = config.data.max_prompt_tokens + config.rollout.max_response_tokens
    return min(longest, positions_of(model.config))
