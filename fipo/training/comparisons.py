"""Log-probs of the same rows by trainer, engine and transformers' own forward, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, cycle, islice

import numpy as np
import torch
from torch import Tensor

from fipo.batch import Prompt, Rollout
from fipo.config import Config
from fipo.distributed.engine import TrainingEngine
from fipo.models.experts import watching
from fipo.models.lora import has_adapter, merged_error
from fipo.models.precision import rotary_frequencies
from fipo.models.stops import Stops
from fipo.records import Measurement
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.transformers import TransformersEngine
from fipo.training.forwards import expert_mismatch, own_forward, trained
from fipo.training.rows import Row

PROMPTS, GROUP, RESPONSE_TOKENS, LONG_TOKENS = 2, 4, 16, 8
"""Prompts that are answered, responses to each, tokens of one, and tokens after the long prompt: a token more is a pass
of the engine over all its weights, a response more hardly anything."""

POSITIONS = 256
"""Of each row, at its end, that are compared."""

HEAD_CHUNK = 16
"""Tokens of a chunk of the head while rows alone are compared: so few that there are several chunks."""

OWN_LIMIT = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Nats between the trainer and transformers' forward: the sums are the same, in another order. In bfloat16 that was
0.05 for the worst row of a published model; rows that see each other, or a wrong head, make several tenths."""

ENGINE_LIMIT_FLOAT32 = 5e-3
"""Nats between trainer and engine in float32; in bfloat16 it is `rollout.mismatch_limit`."""

ANGLE_LIMIT = 1e-3
"""Radians, at the longest position; float32 frequencies make none."""

ADAPTER_LIMIT = {torch.float32: 1e-4, torch.bfloat16: 0.02}
"""Distance of a merged layer's output from peft's, over its size: in bfloat16 each rounds to a part in 256."""

EXPERT_LIMIT = {torch.float32: 0.01, torch.bfloat16: 0.2}
"""Share of tokens that may go to other experts: where two logits are as good as equal, rounding decides."""

WEIGHT_LIMIT = 0.03
"""Distance from 1 of the mean importance weight of tokens that the engine sampled."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A row, and what the engine said of its response."""

    row: Row
    """Its response is what is compared: the last positions."""
    rollout_log_probs: Tensor
    """[tokens] of the sampled tokens at its end; empty without an engine."""
    is_long: bool
    is_first: bool
    """The first response to its prompt: that is held against transformers; the others differ from it in a few tokens,
    and are held against the engine."""
    router_logits: Sequence[Tensor] = ()
    """Of an embedded engine, for a mixture of experts, where the row was sampled alone: each pass's layers in turn."""


def samples_of(
    engine: TrainingEngine,
    config: Config,
    stops: Stops,
    prompts: Sequence[Sequence[int]],
    longest: int,
    rollout: RolloutEngine | None,
) -> list[Sample]:
    """Some prompts with responses of the engine, and a row of `longest` tokens; the same on ranks that share rows."""
    most = min(config.rollout.max_response_tokens, longest // 4)
    new_tokens, after_long = min(RESPONSE_TOKENS, most), min(LONG_TOKENS, most)
    short = _cut_short(prompts, longest - new_tokens)
    ids = (token for token in chain.from_iterable(cycle(prompts)) if token not in stops.ids)
    long = Prompt("long", "", tuple(islice(ids, longest - after_long)), "")
    if rollout is None:
        return [_sample(prompt, None, prompt is long) for prompt in (*short, long) if len(prompt.token_ids) > 1]
    rollout.load_weights(engine.weights(), version=engine.steps_done)
    sampler = rollout.model if engine.module.experts and isinstance(rollout, TransformersEngine) else None
    found = []
    for asked, count, tokens in ((short, GROUP, new_tokens), ([long], 1, after_long)):
        sampling = Sampling(
            group_size=count,
            max_response_tokens=tokens,
            temperature=config.rollout.temperature,
            top_p=config.rollout.top_p,
            seed=config.run.seed,
        )
        with watching(sampler) if sampler and count == 1 else nullcontext(()) as router_logits:
            groups = rollout.generate(asked, sampling)
        for group in groups:
            found += [
                _sample(group.prompt, one, asked is not short, is_first=index == 0, router_logits=router_logits)
                for index, one in enumerate(group.rollouts)
            ]
    rollout.sleep()
    sequence = engine.sequence
    if sequence.size == 1:
        return found
    mine: list[Sample] = engine.world.gather(found)[sequence.data_rank * sequence.size]
    return mine


def _cut_short(prompts: Sequence[Sequence[int]], most: int) -> list[Prompt]:
    """The first prompts' last tokens; of different lengths, for an engine that attends to padding is to show."""
    cut = [tuple(prompt[-most:]) for prompt in prompts[:PROMPTS]]
    if len({*map(len, cut)}) < len(cut):
        cut[-1] = cut[-1][1:] or cut[-1]
    return [Prompt(str(index), "", prompt, "") for index, prompt in enumerate(cut)]


def _sample(
    prompt: Prompt,
    rollout: Rollout | None,
    is_long: bool,
    *,
    is_first: bool = True,
    router_logits: Sequence[Tensor] = (),
) -> Sample:
    ids = [*prompt.token_ids, *(rollout.token_ids.tolist() if rollout else ())]
    start = max(1, len(ids) - POSITIONS)
    said = torch.from_numpy(rollout.log_probs) if rollout else torch.empty(0)
    return Sample(Row(ids[:start], np.array(ids[start:], np.int32)), said, is_long, is_first, router_logits)


def compare(engine: TrainingEngine, config: Config, samples: list[Sample], stops: Stops) -> list[Measurement]:
    """What the model is told by trainer and transformers of the same rows, and what the engine said; for this rank."""
    rows = [sample.row for sample in samples]
    order = sorted(range(len(rows)), key=lambda index: index % 2)  # the long row has others on both sides
    packed = dict(zip(order, trained(engine, [rows[index] for index in order]), strict=True))
    checks = [*_with_transformers(engine, samples, packed), *_of_parts(engine, samples)]
    if len(samples[0].rollout_log_probs):
        checks += _with_engine(engine, config, samples, stops, packed)
    return checks


def _with_transformers(
    engine: TrainingEngine, samples: Sequence[Sample], packed: Mapping[int, Tensor]
) -> Iterator[Measurement]:
    """The trainer's log-probs, row by row and packed, against transformers' own forward of the first responses."""
    rows = [sample.row for sample in samples]
    first = [index for index, sample in enumerate(samples) if sample.is_first]
    theirs, frequencies = {}, []
    for index in first:
        theirs[index] = own_forward(engine, rows[index])
        frequencies.append(rotary_frequencies(engine.model))
    own, head = ({index: both[which] for index, both in theirs.items()} for which in (0, 1))
    engine.module.chunk_tokens = HEAD_CHUNK
    alone = {index: trained(engine, [rows[index]])[0] for index in first}
    engine.module.chunk_tokens = None

    def apart(ours: Mapping[int, Tensor], theirs: Mapping[int, Tensor], *, is_long: bool | None = None) -> float:
        """The largest mean distance of a row; of all rows, or of the long or the short ones."""
        which = (i for i in first if is_long in (None, samples[i].is_long))
        return max((float((ours[i] - theirs[i]).abs().mean()) for i in which), default=0.0)

    longest, limit = max(map(len, rows)), OWN_LIMIT[engine.dtype]
    turned = [(one - same).abs().max() for row in frequencies for one, same in zip(row, frequencies[0], strict=True)]
    yield Measurement(
        *("rotary lengths", float(max(turned, default=0.0)) * longest, ANGLE_LIMIT, "radians"),
        f"a row of {longest:,} tokens has other rotary frequencies than a short one (a rope_type that looks at the "
        "length, as longrope), so that what was sampled with some is trained with others: data.max_prompt_tokens + "
        "rollout.max_response_tokens must stay below the length that the model changes them at "
        "(original_max_position_embeddings in config.json)",
    )
    yield Measurement(
        *("head", apart(head, own), limit, "nats"),
        "logits that the trainer computes from the model's hidden states are not the model's (scale, cap, bias)",
    )
    yield Measurement(
        *("rows alone", apart(alone, own, is_long=False), limit, "nats"),
        "the trainer's log-probs of one row are not those of transformers' own forward",
    )
    yield Measurement(
        *("long row alone", apart(alone, own, is_long=True), limit, "nats"),
        f"the same of a row of {longest:,} tokens: a sliding window, or positions far out, are not the model's",
    )
    yield Measurement(
        *("packed rows", apart(packed, alone), limit, "nats"), "rows in one pass of the trainer see each other"
    )


def _of_parts(engine: TrainingEngine, samples: Sequence[Sample]) -> Iterator[Measurement]:
    """What some models have: an adapter beside their weights, experts."""
    if has_adapter(engine.model):
        yield Measurement(
            *("adapter", merged_error(engine.model, engine.whole), ADAPTER_LIMIT[engine.dtype], "of an output"),
            "weights with the adapter added to them, as engines and the published model have them, make other "
            "outputs than the adapter beside them",
        )
    for sample in samples:
        if sample.router_logits and engine.sequence.size == 1:  # else a rank sees a part of the row
            yield Measurement(
                "experts",
                expert_mismatch(engine, sample.row, sample.router_logits),
                EXPERT_LIMIT[engine.dtype],
                "of tokens and layers",
                "the rollout engine sends tokens to other experts than the trainer",
            )


def _with_engine(
    engine: TrainingEngine, config: Config, samples: Sequence[Sample], stops: Stops, packed: Mapping[int, Tensor]
) -> Iterator[Measurement]:
    """The trainer's log-probs against what the rollout engine said when it sampled."""
    said = [sample.rollout_log_probs for sample in samples]
    ours = [packed[index][-len(one) :] for index, one in enumerate(said)]
    long, short = ([i for i, sample in enumerate(samples) if sample.is_long is which] for which in (True, False))
    limit = ENGINE_LIMIT_FLOAT32 if engine.dtype is torch.float32 else config.rollout.mismatch_limit
    fault = "the rollout engine samples from another policy than the one that is trained"
    yield Measurement(*("engine", _mean_gap(ours, said, short), limit, "nats"), fault)
    yield Measurement(
        *("engine, long row", _mean_gap(ours, said, long), limit, "nats"),
        f"{fault}, after {max(len(sample.row) for sample in samples):,} tokens: look at sliding windows and rotary "
        "embeddings",
    )
    weights = torch.cat([one - other for one, other in zip(ours, said)]).exp()
    yield Measurement(
        *("importance weight", float((weights.mean() - 1.0).abs()), WEIGHT_LIMIT, "away from 1"),
        "the engine cuts or changes the distribution (top_p, top_k, min_p, another temperature)",
    )
    past = sum(int(token) in stops.ids for s in samples for token in s.row.response_ids[-len(s.rollout_log_probs) : -1])
    yield Measurement(
        *("past the end", past, 0, "stop tokens inside responses"), "the engine does not stop where it should"
    )


def _mean_gap(ours: list[Tensor], theirs: list[Tensor], which: list[int]) -> float:
    """Over all tokens: a response may have one."""
    gaps = [(ours[index] - theirs[index]).abs() for index in which]
    return float(torch.cat(gaps).mean()) if gaps else 0.0
