"""Packed rows against padded ones: tokens a second of forward and backward, at equal gradients.

    python -m benchmarks.packing [--json] [--rows 64] [--block-mask]

Log-normal lengths (median 256, at most 2,048), at most 8,192 positions in a micro-batch for everyone, one model:

- `packed`: ours, no padding, attention inside each sequence.
- `padded`: the peer, rows in the order of arrival, padded to the longest of their micro-batch.
- `sorted`: rows of similar length padded to each other.
- `block_mask`, on demand: packed rows with a block-diagonal mask, as transformers has it without FlashAttention.

Tokens are those of the rows, padding not counted. On a busy machine compare CPU seconds. `balance` is how much longer
the slowest of 8 ranks takes than all of them would on average, ours and with rows dealt out in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.harness import DEVICE, context
from benchmarks.pairs import alternate
from fipo.algorithm.log_probs import linear_log_probs
from fipo.config import Architecture, Model
from fipo.distributed.attention import attention_parity, use_packed_attention
from fipo.distributed.packing import plan_micro_batches
from fipo.distributed.token_log_probs import TokenLogProbs
from fipo.models import load_model
from fipo.models.precision import place
from fipo.training.rows import Row, pack_rows

MAX_TOKENS, PROMPT, RANKS = 8192, 16, 8
Plan = Sequence[Sequence[int]]


def make_rows(count: int) -> list[Row]:
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(np.log(256), 1.0, count)).astype(int).clip(PROMPT + 2, 2048)
    return [
        Row(tuple(generator.integers(2, 1000, PROMPT)), generator.integers(2, 1000, length - PROMPT).astype(np.int32))
        for length in lengths
    ]


def make_model() -> PreTrainedModel:
    architecture = Architecture(
        vocabulary=tuple(f"w{index}" for index in range(1000)),
        hidden_size=128,
        intermediate_size=512,
        layers=2,
        attention_heads=4,
        key_value_heads=2,
        max_position_embeddings=2048,
    )
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    return place(load_model(Model(architecture=architecture), seed=0), dtype, DEVICE)


def packed(model: PreTrainedModel, rows: Sequence[Row]) -> Iterator[Tensor]:
    use_packed_attention(model)
    module = TokenLogProbs(model, 1.0)
    [plan] = plan_micro_batches(
        [len(row) for row in rows], ranks=1, max_tokens=MAX_TOKENS, attention_parity=attention_parity(model)
    )
    for indices in plan:
        tokens = pack_rows([rows[index] for index in indices], 0).to(DEVICE)
        ends = torch.tensor([0, *np.cumsum(tokens.lengths)], dtype=torch.int32, device=DEVICE)
        yield module(
            *(tokens.input_ids, tokens.targets, tokens.response_mask, tokens.position_ids),
            *(ends, max(tokens.lengths)),
        )[0]


def block_mask(model: PreTrainedModel, rows: Sequence[Row]) -> Iterator[Tensor]:
    """transformers makes the mask itself, of position ids that start anew."""
    model.set_attn_implementation("sdpa")
    [plan] = plan_micro_batches([len(row) for row in rows], ranks=1, max_tokens=MAX_TOKENS)
    for indices in plan:
        tokens = pack_rows([rows[index] for index in indices], 0).to(DEVICE)
        hidden = model.model(tokens.input_ids, position_ids=tokens.position_ids, use_cache=False).last_hidden_state
        wanted = tokens.response_mask
        yield linear_log_probs(hidden[wanted], model.lm_head.weight, tokens.targets[wanted])[0]


def padded(model: PreTrainedModel, rows: Sequence[Row]) -> Iterator[Tensor]:
    return _side_by_side(model, rows, range(len(rows)))


def sorted_by_length(model: PreTrainedModel, rows: Sequence[Row]) -> Iterator[Tensor]:
    return _side_by_side(model, rows, sorted(range(len(rows)), key=lambda index: len(rows[index])))


METHODS: dict[str, Callable[[PreTrainedModel, Sequence[Row]], Iterator[Tensor]]] = {
    "packed": packed,
    "padded": padded,
    "sorted": sorted_by_length,
    "block_mask": block_mask,
}


def _side_by_side(model: PreTrainedModel, rows: Sequence[Row], order: Sequence[int]) -> Iterator[Tensor]:
    model.set_attn_implementation("sdpa")
    batches: list[list[Row]] = []
    for row in (rows[index] for index in order):
        together = [*batches[-1], row] if batches else []
        if together and len(together) * max(map(len, together)) <= MAX_TOKENS:
            batches[-1] = together
        else:
            batches.append([row])
    for batch in batches:
        ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.int64)
        attention_mask = torch.zeros_like(ids)
        for index, row in enumerate(batch):
            ids[index, : len(row)] = torch.tensor([*row.prompt_ids, *row.response_ids])
            attention_mask[index, : len(row)] = 1
        ids, attention_mask = ids.to(DEVICE), attention_mask.to(DEVICE)
        hidden = model.model(ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        wanted = attention_mask[:, 1:].bool()
        wanted[:, : PROMPT - 1] = False
        yield linear_log_probs(hidden[:, :-1][wanted], model.lm_head.weight, ids[:, 1:][wanted])[0]


def gradient(method: str, model: PreTrainedModel, rows: Sequence[Row]) -> Tensor:
    """Of the mean log-likelihood."""
    responses = sum(len(row.response_ids) for row in rows)
    model.zero_grad()
    for log_probs in METHODS[method](model, rows):
        (log_probs.sum() / responses).backward()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat(gradients).float()


def imbalance(rows: Sequence[Row], parity: float) -> dict[str, float]:
    """Time of the slowest rank over the mean, summed over micro-batches, where all wait for the slowest."""

    def cost(indices: Sequence[int]) -> float:
        return sum(len(rows[index]) + len(rows[index]) ** 2 / parity for index in indices)

    ours = plan_micro_batches([len(row) for row in rows], ranks=RANKS, max_tokens=MAX_TOKENS, attention_parity=parity)
    dealt = [[range(rank, len(rows), RANKS)] for rank in range(RANKS)]
    result = {}
    for name, plan in (("ours", ours), ("in_turn", dealt)):
        costs = np.array([[cost(indices) for indices in rank] for rank in plan])
        result[name] = float(costs.max(0).sum() / costs.mean(0).sum())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=7, help="of ours and each peer, in turn")
    parser.add_argument("--block-mask", action="store_true", help="measure the block-diagonal mask too (slow)")
    options = parser.parse_args()
    methods = [method for method in METHODS if method != "block_mask" or options.block_mask]
    model, rows = make_model(), make_rows(options.rows)
    gradients = {method: gradient(method, model, rows) for method in methods}  # and what is compiled or made once
    compared = {
        method: alternate(
            lambda: gradient("packed", model, rows),
            lambda method=method: gradient(method, model, rows),  # type: ignore[misc]
            pairs=options.pairs,
        )
        for method in methods
        if method != "packed"
    }
    reference = gradients["padded"]
    differences = {name: ((each - reference).norm() / reference.norm()).item() for name, each in gradients.items()}
    balance = imbalance(make_rows(16 * options.rows), attention_parity(model))
    lengths = [len(row) for row in rows]
    print(f"{len(rows)} rows, {sum(lengths)} tokens, {min(lengths)} to {max(lengths)} each, on {context()['machine']}")
    for method, found in compared.items():
        print(
            f"  packed is {found.ratio} times as fast as {method}, by CPU seconds {found.cpu_ratio}; "
            f"gradient {differences[method]:.1e} apart"
        )
    print(f"  slowest of {RANKS} ranks over the mean: {balance['ours']:.3f}, dealt in turn {balance['in_turn']:.3f}")
    if max(differences.values()) > (1e-4 if DEVICE.type == "cpu" else 5e-2):
        sys.exit(f"gradients differ: {differences}")
    result = {
        **compared["padded"].to_json(),
        "ratio_to_sorted": compared["sorted"].ratio.value,
        "cpu_ratio_to_sorted": compared["sorted"].cpu_ratio.value,
        "gradient_differences": differences,
        "balance": balance,
        **context(),
    }
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
