"""The same rows through the trainer and through transformers' own forward: what admission compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.distributed.engine import TrainingEngine
from fipo.models.experts import watching
from fipo.models.inference import inference
from fipo.training.rows import Row, pack_rows


def expert_mismatch(engine: TrainingEngine, row: Row, sampled: Sequence[Tensor]) -> float:
    """The share of tokens, mean over layers, that trainer and engine send to different sets of experts.

    `sampled`: router logits of the engine's passes over the row, each pass's layers in turn.
    """
    experts = engine.module.experts
    assert experts
    with watching(engine.model) as router_logits:
        trained(engine, [row])
    layers = len(router_logits)
    passes = [sampled[start : start + layers] for start in range(0, len(sampled), layers)]
    theirs = torch.cat([experts.chosen(one) for one in passes], dim=1).cpu()
    ours = experts.chosen(router_logits).cpu()[:, : theirs.shape[1]]  # the last token was sampled, and never an input
    return float((ours != theirs).any(-1).double().mean())


@torch.no_grad()
def trained(engine: TrainingEngine, rows: list[Row]) -> list[Tensor]:
    """[response] of each row, as training computes them and in its mode, on the CPU."""
    sequence = engine.sequence
    tokens = pack_rows(rows, 0, multiple_of=sequence.size)
    log_probs, _ = engine.log_probs(sequence.shard(tokens).to(engine.world.device))
    found = sequence.gather(log_probs).cpu()[tokens.response_mask]
    return list(found.split([len(row.response_ids) for row in rows]))


def own_forward(engine: TrainingEngine, row: Row) -> tuple[Tensor, Tensor]:
    """[response] log-probs of the row by transformers alone, and by our head on transformers' hidden states."""
    model, head = engine.model, engine.model.get_output_embeddings()
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]], device=engine.world.device)
    targets, hidden = ids[0, -len(row.response_ids) :], []
    hook = head.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0]))
    with _own_attention(model), inference(model):
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(targets) + 1).logits[0, :-1]
    hook.remove()
    own = torch.log_softmax(logits.float() / engine.module.temperature, dim=-1)
    own = own.gather(-1, targets[:, None])[:, 0].cpu()
    if engine.module.head is None:
        return own, own
    with ExitStack() as stack:
        for parameter in head.parameters():
            stack.enter_context(engine.whole(parameter))
        with torch.no_grad():
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
