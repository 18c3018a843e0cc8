"""Admission: before the first update, trainer, engine and transformers' own forward must agree about the model.

Rows are real prompts with responses of the rollout engine, and one as long as the recipe allows. Of each, the last
positions are compared. Everything is measured on the model, tokenizer, engine and device of the run, in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, cycle, islice

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.batch import Prompt, Rollout
from fipo.config import Config
from fipo.distributed.engine import TrainingEngine
from fipo.errors import AdmissionError
from fipo.models.precision import rotary_error
from fipo.models.stops import Stops
from fipo.records import Admission, Measurement
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.training.job import Job
from fipo.training.rows import Row, pack_rows

PROMPTS, GROUP, RESPONSE_TOKENS = 4, 2, 32
"""Prompts that are answered, responses to each, and tokens of one."""

POSITIONS = 256
"""Of each row, at its end, that are compared."""

HEAD_CHUNK = 16
"""Tokens of a chunk of the head while rows alone are compared: so few that there are several chunks."""

OWN_LIMIT = {torch.float32: 1e-3, torch.bfloat16: 0.03}
"""Nats between the trainer and transformers' forward: the sums are the same, in another order."""

ENGINE_LIMIT_FLOAT32 = 5e-3
"""Nats between trainer and engine in float32; in bfloat16 it is `rollout.mismatch_limit`."""

WEIGHT_LIMIT = 0.03
"""Distance from 1 of the mean importance weight of tokens that the engine sampled."""

ANGLE_LIMIT = 1e-3
"""Radians; float32 frequencies make none."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row, and what the engine said of its response."""

    row: Row
    """Its response is what is compared: the last positions."""
    rollout_log_probs: Tensor
    """[tokens] of the sampled tokens at its end; empty without an engine."""
    is_long: bool


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
    began, training = time.monotonic(), engine.model.training
    engine.model.eval()
    token_checks = _token_checks(engine.model, tokenizer, stops, prompts, rollout)
    longest = _longest(engine.model, job.config)
    checks = [*token_checks, _angle_check(engine, longest)]
    if all(check.passed for check in token_checks):  # else the model cannot even be asked
        samples = _samples(engine, job.config, stops, prompts, longest, rollout)
        checks += _comparisons(engine, job.config, samples, stops)
    engine.model.train(training)
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
    job.say(_line(admission))
    job.say(f"stops at: {admission.stops}")
    if job.attempt:
        job.attempt.tracker.table(admission.table(), "admission.json")
        job.attempt.record(admission)
    if admission.failed:
        raise AdmissionError(
            f"{admission.model} is not admitted to training:\n"
            + "\n".join(
                f"  {one.name}: must be at most {one.limit:g} {one.unit}; measured {one.figure:.3g}: {one.fault}"
                for one in admission.failed
            )
        )
    return admission


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
    return min(longest, int(model.config.get_text_config().max_position_embeddings))


def _samples(
    engine: TrainingEngine,
    config: Config,
    stops: Stops,
    prompts: Sequence[Sequence[int]],
    longest: int,
    rollout: RolloutEngine | None,
) -> list[_Sample]:
    """The same on ranks that share rows."""
    new_tokens = min(RESPONSE_TOKENS, config.rollout.max_response_tokens, longest // 4)
    room = longest - new_tokens
    short = [Prompt(str(index), "", tuple(prompt[-room:]), "") for index, prompt in enumerate(prompts[:PROMPTS])]
    ids = (token for token in chain.from_iterable(cycle(prompts)) if token not in stops.ids)
    long = Prompt("long", "", tuple(islice(ids, room)), "")
    if rollout is None:
        return [_sample(prompt, None, prompt is long) for prompt in (*short, long) if len(prompt.token_ids) > 1]
    rollout.load_weights(engine.weights(), version=engine.steps_done)
    found = []
    for asked, count in ((short, GROUP), ([long], 1)):
        sampling = Sampling(
            group_size=count,
            max_response_tokens=new_tokens,
            temperature=config.rollout.temperature,
            top_p=config.rollout.top_p,
            seed=config.run.seed,
        )
        groups = rollout.generate(asked, sampling)
        found += [_sample(group.prompt, one, group.prompt is long) for group in groups for one in group.rollouts]
    rollout.sleep()
    sequence = engine.sequence
    mine: list[_Sample] = engine.world.gather(found)[sequence.data_rank * sequence.size]
    return mine


def _sample(prompt: Prompt, rollout: Rollout | None, is_long: bool) -> _Sample:
    ids = [*prompt.token_ids, *(rollout.token_ids.tolist() if rollout else ())]
    start = max(1, len(ids) - POSITIONS)
    said = torch.from_numpy(rollout.log_probs) if rollout else torch.empty(0)
    return _Sample(Row(ids[:start], np.array(ids[start:], np.int32)), said, is_long)


def _comparisons(engine: TrainingEngine, config: Config, samples: list[_Sample], stops: Stops) -> list[Measurement]:
    rows = [sample.row for sample in samples]
    own, head = zip(*(_own_forward(engine, row) for row in rows))
    engine.module.chunk_tokens = HEAD_CHUNK
    alone = [_trained(engine, [row])[0] for row in rows]
    engine.module.chunk_tokens = None
    order = sorted(range(len(rows)), key=lambda index: index % 2)  # the long row has others on both sides
    packed_in_order = _trained(engine, [rows[index] for index in order])
    packed = [packed_in_order[order.index(index)] for index in range(len(rows))]
    limit = OWN_LIMIT[engine.dtype]
    long, short = ([i for i, sample in enumerate(samples) if sample.is_long is which] for which in (True, False))

    def apart(ours: Sequence[Tensor], theirs: Sequence[Tensor], which: Sequence[int]) -> float:
        """The largest mean distance of a row."""
        return max((float((ours[i] - theirs[i]).abs().mean()) for i in which), default=0.0)

    longest = max(map(len, rows))
    checks = [
        Measurement(
            *("head", apart(head, own, range(len(rows))), limit, "nats"),
            "logits that the trainer computes from the model's hidden states are not the model's (scale, cap, bias)",
        ),
        Measurement(
            *("rows alone", apart(alone, own, short), limit, "nats"),
            "the trainer's log-probs of one row are not those of transformers' own forward",
        ),
        Measurement(
            *("long row alone", apart(alone, own, long), limit, "nats"),
            f"the same of a row of {longest:,} tokens: a sliding window, or positions far out, are not the model's",
        ),
        Measurement(
            *("packed rows", apart(packed, alone, range(len(rows))), limit, "nats"),
            "rows in one pass of the trainer see each other",
        ),
    ]
    if not len(samples[0].rollout_log_probs):
        return checks
    said = [sample.rollout_log_probs for sample in samples]
    ours = [log_probs[-len(one) :] for log_probs, one in zip(packed, said)]
    gap_limit = ENGINE_LIMIT_FLOAT32 if engine.dtype is torch.float32 else config.rollout.mismatch_limit
    weights = torch.cat([one - other for one, other in zip(ours, said)]).exp()
    past = sum(int(token) in stops.ids for s in samples for token in s.row.response_ids[-len(s.rollout_log_probs) : -1])
    engine_fault = "the rollout engine samples from another policy than the one that is trained"
    return [
        *checks,
        Measurement(*("engine", _mean_gap(ours, said, short), gap_limit, "nats"), engine_fault),
        Measurement(
            *("engine, long row", _mean_gap(ours, said, long), gap_limit, "nats"),
            f"{engine_fault}, after {longest:,} tokens: look at sliding windows and rotary embeddings",
        ),
        Measurement(
            *("importance weight", float((weights.mean() - 1.0).abs()), WEIGHT_LIMIT, "away from 1"),
            "the engine cuts or changes the distribution (top_p, top_k, min_p, another temperature)",
        ),
        Measurement(
            *("past the end", past, 0, "stop tokens inside responses"), "the engine does not stop where it should"
        ),
    ]


def _mean_gap(ours: list[Tensor], theirs: list[Tensor], which: list[int]) -> float:
    """Over all tokens: a response may have one."""
    gaps = [(ours[index] - theirs[index]).abs() for index in which]
    return float(torch.cat(gaps).mean()) if gaps else 0.0


@torch.no_grad()
def _trained(engine: TrainingEngine, rows: list[Row]) -> list[Tensor]:
    """[response] of each row, as training computes them, on the CPU."""
    sequence = engine.sequence
    tokens = pack_rows(rows, 0, multiple_of=sequence.size)
    log_probs, _ = engine.log_probs(sequence.shard(tokens).to(engine.world.device))
    found = sequence.gather(log_probs).cpu()[tokens.response_mask]
    return list(found.split([len(row.response_ids) for row in rows]))


@torch.no_grad()
def _own_forward(engine: TrainingEngine, row: Row) -> tuple[Tensor, Tensor]:
    """[response] log-probs of the row by transformers alone, and by our head on transformers' hidden states."""
    model, head = engine.model, engine.model.get_output_embeddings()
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]], device=engine.world.device)
    targets, hidden = ids[0, -len(row.response_ids) :], []
    hook = head.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0]))
    with _own_attention(model):
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(targets) + 1).logits[0, :-1]
    hook.remove()
    own = torch.log_softmax(logits.float() / engine.module.temperature, dim=-1)
    own = own.gather(-1, targets[:, None])[:, 0].cpu()
    if engine.module.head is None:
        return own, own
    with ExitStack() as stack:
        for parameter in head.parameters():
            stack.enter_context(engine.whole(parameter))
        ours, _ = engine.module.log_probs_of(hidden[0][0, :-1], targets)
    return own, ours.cpu()


@contextmanager
def _own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention by transformers' own code: it makes the masks and knows the windows."""
    trained = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(trained)
