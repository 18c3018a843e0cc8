"""Rollouts in the training process itself, over any decoder of transformers that keeps keys and values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup
from fipo.errors import RolloutError
from fipo.models import positions_of
from fipo.models.experts import experts_of
from fipo.models.head import float32_linear, measure_head
from fipo.models.inference import inference
from fipo.rollout.cuda_graphs import FixedSteps, can_be_captured
from fipo.rollout.engine import (
    OnGroup,
    OnResponses,
    RolloutEngine,
    Sampling,
    Weights,
    check_prompts,
    ids_that_stop,
    response_limit,
)
from fipo.rollout.kv_cache import GroupCache
from fipo.rollout.parts import cut, parts_for_each
from fipo.rollout.sampling import response_stream, sample
from fipo.rollout.weights import checked, shapes_of

_ATTENTION = {"full_attention", "sliding_attention"}


@dataclass(slots=True)
class _Response:
    """One response while it grows."""

    position: int
    """Place among all responses of the call."""
    prompt: Prompt
    limit: int
    """Tokens at most."""
    stream: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


class TransformersEngine(RolloutEngine):
    """Samples from `model` where it stands; in training it is the trained model itself, and a sync copies nothing.

    Each distinct prompt is computed once for its whole group. Each response has its own random numbers, so it does not
    depend on what else is in the batch, as far as the model's floating-point results do not.

    Args:
        model: a causal language model whose layers attend, to all that is before or to a window.
        eos_token_id: the token, or tokens, that end a response.
        pad_token_id: any valid token; it is masked.
        max_batch_tokens: cache positions in use at once, prompts and responses; more responses than fit wait.
        in_training: the model is the trained one itself, with its adapter if it has one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        eos_token_id: int | Collection[int],
        pad_token_id: int,
        max_batch_tokens: int,
        in_training: bool = False,
    ) -> None:
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if not kinds <= _ATTENTION:
            raise RolloutError(
                f"model {config.model_type}: the transformers engine keeps the keys and values of attention, full or "
                f"in windows, and nothing else; found {', '.join(sorted(kinds - _ATTENTION))}"
            )
        self._windows = kinds != {"full_attention"} or getattr(config, "sliding_window", None) is not None
        self._head = measure_head(model) if model.dtype is not torch.float32 else None
        self._model, self._in_training = model, in_training
        # A model that was told to compute it would take the mask of the cache for one of tokens.
        self._without_loss = {"output_router_logits": False} if experts_of(model) else {}
        self.stop_ids = ids_that_stop(eos_token_id)
        self._pad_id = pad_token_id
        self._max_batch_tokens = max_batch_tokens
        self._context = positions_of(config)
        self._version = 0

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> list[RolloutGroup]:
        """See `RolloutEngine.generate`."""
        check_prompts(prompts, self._context)
        responses = self._open(prompts, sampling)
        rollouts: list[dict[int, Rollout]] = [{} for _ in prompts]
        groups: dict[int, RolloutGroup] = {}
        done = 0
        with inference(self._model):
            for batch in self._batches(responses):
                for response, reason in self._decode(batch, sampling):
                    group, index = divmod(response.position, sampling.group_size)
                    rollouts[group][index] = self._rollout(response, reason)
                    done += 1
                    if progress:
                        progress(done, len(responses))
                    if len(rollouts[group]) == sampling.group_size:
                        ordered = tuple(rollouts[group][index] for index in range(sampling.group_size))
                        groups[group] = RolloutGroup(prompts[group], ordered)
                        if on_group:
                            on_group(groups[group])
        return [groups[group] for group in range(len(prompts))]

    def parts(self, prompts: Sequence[Prompt], sampling: Sampling, ranks: int) -> list[list[int]]:
        """As many for each rank as cost no batch more than one would, those with the longest prompts first.

        What a part holds, and so its batches, does not depend on who generates it.
        """
        longest = max((len(prompt.token_ids) for prompt in prompts), default=1)
        limit = max((response_limit(prompt, sampling, self._context) for prompt in prompts), default=0)
        rows = self._max_batch_tokens // (longest + limit)
        each = parts_for_each(len(prompts), sampling.group_size, rows, ranks)
        if each == 1:
            return super().parts(prompts, sampling, ranks)
        return cut(sorted(range(len(prompts)), key=lambda place: -len(prompts[place].token_ids)), each * ranks)

    @torch.no_grad()
    def load_weights(self, source: Weights, version: int) -> None:
        """Copy the weights; where the trained model generates itself there is nothing to copy.

        Raises:
            RolloutError: `source` lacks a parameter, has one that the model lacks, or one of another shape.
        """
        if not self._in_training:
            parameters = dict(self._model.named_parameters())
            for name, tensor in checked(source, shapes_of(self._model), version):
                parameters[name].copy_(tensor)
        self._version = version

    @property
    def model(self) -> PreTrainedModel:
        """That it samples from."""
        return self._model

    def close(self) -> None:
        """Nothing is held between calls."""

    def _rollout(self, response: _Response, reason: FinishReason) -> Rollout:
        return Rollout(
            token_ids=np.array(response.tokens, dtype=np.int32),
            log_probs=np.array(response.log_probs, dtype=np.float32),
            finish_reason=reason,
            weight_version=self._version,
        )

    def _open(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[_Response]:
        pairs = [(prompt, index) for prompt in prompts for index in range(sampling.group_size)]
        return [
            _Response(
                position=position,
                prompt=prompt,
                limit=response_limit(prompt, sampling, self._context),
                stream=response_stream(sampling.seed, prompt.draw_id, index),
            )
            for position, (prompt, index) in enumerate(pairs)
        ]

    def _batches(self, responses: list[_Response]) -> Iterator[list[_Response]]:
        """Responses that fit in memory together, those with the longest prompts first."""
        batch: list[_Response] = []
        for response in sorted(responses, key=lambda response: -len(response.prompt.token_ids)):
            if batch and _capacity([*batch, response]) * (len(batch) + 1) > self._max_batch_tokens:
                yield batch
                batch = []
            batch.append(response)
            if _capacity(batch) * len(batch) > self._max_batch_tokens:
                raise RolloutError(
                    f"rollout.max_batch_tokens: must be at least {_capacity(batch)}, a prompt and its longest "
                    f"response; got {self._max_batch_tokens}"
                )
        if batch:
            yield batch

    def _decode(self, rows: list[_Response], sampling: Sampling) -> Iterator[tuple[_Response, FinishReason]]:
        """Generate a batch; yields each response when it ends. Row i of all tensors belongs to `rows[i]`."""
        cache, logits, padding, mask = self._prefill(rows)
        step = self._stepper(cache, padding, mask)
        while True:
            uniforms = torch.tensor([row.stream.random() for row in rows], dtype=torch.float64, device=logits.device)
            tokens, log_probs = sample(logits, uniforms, temperature=sampling.temperature, top_p=sampling.top_p)
            live: list[int] = []
            ended: list[int] = []
            for index, (row, token, log_prob) in enumerate(zip(rows, tokens.tolist(), log_probs.tolist())):
                row.tokens.append(token)
                row.log_probs.append(log_prob)
                stopped = token in self.stop_ids
                (ended if stopped or len(row.tokens) == row.limit else live).append(index)
                if stopped:
                    yield row, FinishReason.STOP
                elif len(row.tokens) == row.limit:
                    yield row, FinishReason.LENGTH
            if not live:
                return
            source, target = _compaction(live, ended)
            for here, there in zip(source, target):
                rows[there] = rows[here]
            rows = rows[: len(live)]
            if source:
                cache.move_rows(source, target)
                for tensor in (tokens, padding, mask):
                    tensor[target] = tensor[source]
            logits = step(tokens[: len(rows)])

    def _stepper(self, cache: GroupCache, padding: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
        """What takes the next token of each live row, [rows], to the logits after it, [rows, vocabulary]."""

        def exact(tokens: Tensor) -> Tensor:
            count, position = len(tokens), cache.get_seq_length()
            return self._logits(
                input_ids=tokens[:, None],
                attention_mask=mask[:count, ..., : position + 1],
                position_ids=position - padding[:count, None],
                past_key_values=cache,
            )

        if self._windows or not can_be_captured(self._model):
            return exact
        return FixedSteps(exact, self._logits, cache, padding, mask)

    def _prefill(self, rows: list[_Response]) -> tuple[GroupCache, Tensor, Tensor, Tensor]:
        """One left-padded pass over the distinct prompts.

        Returns:
            The cache; the next token's logits [rows, vocabulary]; padding positions before each prompt [rows]; the
            attention mask over all positions, finished and additive [rows, 1, 1, capacity] or, where layers have
            windows and the model makes their masks, 1 for tokens and 0 for padding [rows, capacity].
        """
        device = self._model.device
        prompts = list({row.prompt.token_ids: None for row in rows})
        prompt_index = {prompt: index for index, prompt in enumerate(prompts)}
        prompt_of_row = torch.tensor([prompt_index[row.prompt.token_ids] for row in rows], device=device)
        width = max(len(prompt) for prompt in prompts)
        padding = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        padded = [[self._pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        positions = torch.arange(width, device=device) - padding[:, None]
        cache = GroupCache(prompt_of_row, _capacity(rows))
        logits = self._logits(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=(positions >= 0).long(),
            position_ids=positions.clamp(min=0),
            past_key_values=cache,
            logits_to_keep=1,
        )
        hidden = torch.arange(_capacity(rows), device=device) < padding[:, None]
        if self._windows:
            mask = (~hidden).long()
        else:
            # Additive, not boolean: every attention implementation takes it, and none converts it at each step.
            mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=device)
            mask = mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)[:, None, None]
        return cache, logits[prompt_of_row], padding[prompt_of_row], mask[prompt_of_row]

    def _logits(self, **inputs: Any) -> Tensor:
        """[rows, vocabulary] after the last position: the model's own; its own head in float32 where that is less."""
        if self._head is None:
            logits: Tensor = self._model(**inputs, use_cache=True, **self._without_loss).logits
            return logits[:, -1]
        inputs.pop("logits_to_keep", None)
        last = self._model.base_model(**inputs, use_cache=True).last_hidden_state[:, -1]
        linear = self._model.get_output_embeddings()
        return self._head(float32_linear(last, linear.weight, linear.bias))


def _capacity(rows: list[_Response]) -> int:
    """Cache positions that each row of a batch needs."""
    return max(len(row.prompt.token_ids) for row in rows) + max(row.limit for row in rows)


def _compaction(live: list[int], ended: list[int]) -> tuple[list[int], list[int]]:
    """(source, target) rows: the last live rows take the places of ended ones, so that the live rows come first."""
    source = [index for index in live if index >= len(live)]
    return source, [index for index in ended if index < len(live)]
