"""The training engine: a language model under DeepSpeed that gives log-probs of chosen tokens and takes steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fipo.batch import PackedTokens
from fipo.config import Distributed, Optimizer
from fipo.distributed.attention import attention_parity, use_packed_attention
from fipo.distributed.bootstrap import World
from fipo.distributed.compiled import compilable, compile_layers
from fipo.distributed.memory import save_activation_memory
from fipo.distributed.sequence import SequenceParallel
from fipo.distributed.token_log_probs import TokenLogProbs
from fipo.distributed.zero import Zero
from fipo.models.experts import load_metrics
from fipo.models.lora import has_adapter, plain_parameters
from fipo.models.precision import place

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What an optimizer step did; the same on every rank."""

    skipped: bool
    """Whether it was left out and changed nothing."""
    grad_norm: float
    """Before clipping; NaN if it is not finite."""


class TrainingEngine:
    """DeepSpeed's engine with our own AdamW, a learning rate that depends on the step alone, and exact global sums.

    A loss given to `backward` is this rank's part of the global loss: parts add up over micro-batches and ranks.
    A step whose loss or gradient norm is not finite, or whose norm is above `skip_grad_norm`, changes nothing.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: Optimizer,
        distributed: Distributed,
        world: World,
        *,
        temperature: float = 1.0,
    ) -> None:
        """`model`: on the CPU; at stage 3 in any precision, and still in its files (`load_model(stored=True)`)."""
        self.world = world
        self.model = model
        self.zero_stage = distributed.zero_stage
        self.dtype = weights_dtype(distributed, world.device)
        self.steps_done = 0
        self.skipped_in_a_row = 0
        """Steps left out since the last one that was taken; the same on every rank."""
        self.learning_rate = 0.0
        """Of the last step."""
        self.attention_parity = attention_parity(model)
        self.sequence = SequenceParallel(distributed, world)
        self._settings = optimizer
        self._loss = torch.zeros((), device=world.device)
        if self.zero_stage < 3:
            place(model, self.dtype, world.device)
        use_packed_attention(model)
        self.sequence.attach(model)
        save_activation_memory(model, distributed)
        self.module = TokenLogProbs(model, temperature)
        # How many tokens an expert takes is known when they come to it: the compiler would stop at each.
        if compilable(distributed, world.device) and not self.module.experts and (fault := compile_layers(model)):
            self.module.fallbacks.append(f"{model.config.model_type}: its layers are not compiled ({fault})")
        if world.is_main:
            for line in self.module.fallbacks:
                logger.warning(line)
        if self.zero_stage == 3:  # weights go there in parts: a whole model may have no room
            for buffer in model.buffers():
                buffer.data = buffer.data.to(world.device)
        self._zero = Zero(self.module, optimizer, distributed, self.dtype)

    def log_probs(self, tokens: PackedTokens) -> tuple[Tensor, Tensor]:
        """(log_probs, entropy) of the targets, each [1, time] float32; see `TokenLogProbs.forward`."""
        ends = torch.tensor([0, *accumulate(tokens.lengths)], dtype=torch.int32, device=tokens.input_ids.device)
        result: tuple[Tensor, Tensor] = self._zero.engine(
            tokens.input_ids, tokens.targets, tokens.response_mask, tokens.position_ids, ends, max(tokens.lengths)
        )
        return result

    @property
    def balance(self) -> Tensor | None:
        """The load-balancing loss of the last micro-batch's experts, weighted; None where the model asks for none."""
        return self.module.balance

    def expert_load(self) -> dict[str, float]:
        """How even the experts' load was over all tokens since the last call (`load_metrics`); collective.

        Empty for a dense model.
        """
        load, self.module.expert_load = self.module.expert_load, None
        return {} if load is None else load_metrics(self.world.sum(load.tolist()))

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this micro-batch's part of the global loss."""
        self._loss += loss.detach()
        # DeepSpeed averages gradients over ranks; our parts are to be summed.
        self._zero.engine.backward(loss * self.world.size, scale_wrt_gas=False)

    def step(self) -> StepOutcome:
        """Clip, update the weights, clear the gradient, and say what came of it; collective."""
        loss_is_finite = not self.world.max([not self._loss.isfinite()])[0]
        self._loss.zero_()
        warm_up = min(1.0, (self.steps_done + 1) / max(1, self._settings.warmup_steps))
        self.learning_rate = self._settings.learning_rate * warm_up
        taken = self._zero.step(self.learning_rate, sound=loss_is_finite)
        self.steps_done += taken
        self.skipped_in_a_row = 0 if taken else self.skipped_in_a_row + 1
        return StepOutcome(skipped=not taken, grad_norm=self._zero.grad_norm)

    def whole(self, *parameters: nn.Parameter, modified: bool = False) -> AbstractContextManager[None]:
        """Inside, the parameters are whole on every rank, with `modified` kept as rank 0 leaves them; collective."""
        return self._zero.whole(*parameters, modified=modified)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Whole parameters by name, on every rank alike; gathered one at a time under ZeRO-3, so use each at once.

        They are those of a plain model: an adapter is added to the weights that it belongs to.
        """
        for name, parameter, adapter in plain_parameters(self.model):
            parts = (adapter.a, adapter.b) if adapter else ()
            with self._zero.whole(parameter, *parts):
                yield name, adapter.added_to(parameter) if adapter else parameter.detach()

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What the optimizer updates, by name: all parameters, or the adapter's."""
        return [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]

    def adapter(self) -> dict[str, Tensor]:
        """The adapter's parameters by name, on the CPU; empty without one. Collective."""
        found = {}
        for name, parameter in self.trained_parameters() if has_adapter(self.model) else ():
            with self._zero.whole(parameter):
                found[name] = parameter.detach().cpu()
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """The whole model's state, as `save_pretrained` takes it; collective, complete on rank 0."""
        if has_adapter(self.model):
            return {name: weight.cpu() for name, weight in self.weights() if self.world.is_main}
        if self.zero_stage < 3:
            return dict(self.model.state_dict())
        gathered = self._zero.engine._zero3_consolidated_16bit_state_dict() or {}
        return {name.removeprefix("model."): tensor for name, tensor in gathered.items()}

    def own_parts(self) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
        """Of each parameter in training that this rank holds a part of: name, where the part begins in the flattened
        parameter, and `weight`, `exp_avg` and `exp_avg_sq` of it, flat and in float32. All ranks' parts make all of
        it, each element once."""
        for index, (name, parameter) in enumerate(self.trained_parameters()):
            part = self._zero.own_part(parameter, self.world.rank, keeper=index % self.world.size)
            if part:
                yield name, *part

    def set_parameter(self, parameter: nn.Parameter, tensors: dict[str, Tensor]) -> None:
        """Restore `weight`, `exp_avg` and `exp_avg_sq`, whole, on any number of ranks and any stage; collective."""
        self._zero.set_parameter(parameter, tensors)

    def set_steps_done(self, steps: int) -> None:
        """Continue the learning-rate schedule and Adam's bias correction after so many steps."""
        self.steps_done = steps
        self.skipped_in_a_row = 0
        self._loss.zero_()
        self._zero.set_steps_done(steps)

    def create_moments(self) -> None:
        """Give the optimizer its state, as the first step would; collective, and it changes no weight."""
        if not self.steps_done:
            self.null_step()
            self.set_steps_done(0)

    def null_step(self) -> None:
        """A step that changes no weight: after it the optimizer has its state."""
        ones = torch.ones((1, self.sequence.size), dtype=torch.int64, device=self.world.device)
        tokens = PackedTokens(ones, ones, ones.bool(), ones, ones, lengths=(self.sequence.size,))
        log_probs, _ = self.log_probs(self.sequence.shard(tokens))
        self.backward(log_probs.sum() * 0.0)
        self._zero.step(0.0)


def weights_dtype(distributed: Distributed, device: torch.device) -> torch.dtype:
    """In which weights are trained, and sampled with."""
    if distributed.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if distributed.precision == "bf16" else torch.float32
