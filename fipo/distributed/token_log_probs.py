"""A language model as a module that gives log-probs: its own body, and its own head a few tokens at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from fipo.algorithm.log_probs import linear_log_probs, log_probs_of_logits
from fipo.distributed.attention import packed_arguments, packs
from fipo.models.experts import Experts, experts_of
from fipo.models.head import measure_head


class TokenLogProbs(nn.Module):
    """A language model whose output is the log-prob of each token of interest, without logits of the others.

    What the model does is its own `forward`, but for two things: its attention is told where sequences begin
    (`use_packed_attention`), and its head works on a few tokens at a time. Where one of them cannot be done the model
    does it in its own way, and `fallbacks` says so.
    """

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.chunk_tokens: int | None = None
        """Of `linear_log_probs`."""
        self.head, self.packed = measure_head(model), packs(model)
        self.experts = experts_of(model) if self.packed else None
        self.expert_load: Tensor | None = None
        """Tokens by layer and expert, of all passes since it was None."""
        self.balance: Tensor | None = None
        """The load-balancing loss of the last pass with gradient, where the model's configuration asks for it."""
        name = model.config.model_type
        self.fallbacks = [
            line
            for line, falls_back in (
                (
                    f"{name}: its attention knows nothing of packed rows, so rows are padded to each other",
                    not self.packed,
                ),
                (f"{name}: its head is not linear, so all logits of a micro-batch are held at once", self.head is None),
            )
            if falls_back
        ]
        """What is slower or needs more memory than for other models, and why."""

    def forward(
        self,
        input_ids: Tensor,
        targets: Tensor,
        mask: Tensor,
        position_ids: Tensor,
        cu_seq_lens: Tensor,
        longest: int,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the targets where `mask` is True, 0 elsewhere.

        Args:
            input_ids: [1, time] int64; see `PackedTokens`, also for the next three.
            targets: [1, time] int64.
            mask: [1, time] bool.
            position_ids: [1, time] int64.
            cu_seq_lens: [sequences + 1] int32: where each sequence of the row starts, and the row's end.
            longest: tokens of the longest sequence.

        Returns:
            (log_probs, entropy), each [1, time] float32; entropy carries no gradient.
        """
        model = self.model if self.head is None else self.model.base_model
        if self.packed:
            packed = packed_arguments(cu_seq_lens, longest)
            if self.experts:
                packed["output_router_logits"] = True
            output = model(input_ids=input_ids, position_ids=position_ids, **packed)
            if self.experts:
                self._measure(self.experts, output.router_logits)
        else:
            output = model(input_ids=_padded(input_ids, cu_seq_lens), use_cache=False)
        last = output.logits if self.head is None else output.last_hidden_state
        if not self.packed:
            lengths = cu_seq_lens.diff()
            last = last[torch.arange(longest, device=lengths.device) < lengths[:, None]][None]
        log_probs, entropy = self.log_probs_of(last[mask], targets[mask])
        zeros = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        return zeros.masked_scatter(mask, log_probs), zeros.masked_scatter(mask, entropy)

    def _measure(self, experts: Experts, router_logits: Sequence[Tensor]) -> None:
        load = experts.load(router_logits)
        self.expert_load = load if self.expert_load is None else self.expert_load + load
        wanted = experts.balance_weight and torch.is_grad_enabled()
        self.balance = experts.balance_weight * experts.balance(router_logits) if wanted else None

    def log_probs_of(self, last: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """From the last hidden states (logits, where `head` is None) of some tokens; under ZeRO-3 the head is whole."""
        if self.head is None:
            return log_probs_of_logits(last, targets, temperature=self.temperature)
        linear = self.model.get_output_embeddings()
        return linear_log_probs(
            last,
            linear.weight,
            targets,
            temperature=self.temperature,
            bias=linear.bias,
            scale=self.head.scale,
            soft_cap=self.head.soft_cap,
            chunk_tokens=self.chunk_tokens,
        )


def _padded(input_ids: Tensor, cu_seq_lens: Tensor) -> Tensor:
    """[sequences, longest]; padding stands after a sequence, where causal attention never reads it."""
    return pad_sequence(input_ids[0].split(cu_seq_lens.diff().tolist()), batch_first=True)
