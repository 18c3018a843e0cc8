"""DeepSpeed's ZeRO in one place: its settings, and the optimizer's float32 state by parameter at every stage."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from fipo.config import Distributed, Optimizer
from fipo.distributed.bootstrap import import_deepspeed

REDUCE_BUCKET = 500_000_000
"""Gradients that are reduced at once, at most: DeepSpeed's own choice."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's state of a parameter, by the names of torch and DeepSpeed."""


class GuardedAdamW(torch.optim.AdamW):
    """torch's AdamW, but it asks before each step: DeepSpeed calls it when it knows the gradient norm, not before."""

    _global_grad_norm: Tensor
    """Where DeepSpeed's own optimizers keep the norm; see `Zero._clip`."""

    def __init__(self, parameters: Iterable[nn.Parameter], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.allowed: Callable[[], bool] = lambda: True  # DeepSpeed steps once while it is set up
        """Whether the step that is due may be taken."""
        self.took_step = False
        """Whether the last step was taken."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take the step or leave it out; called once for each group of parameters."""
        self.took_step = self.allowed()
        if self.took_step:
            super().step()
        else:
            self._create_moments()

    def _create_moments(self) -> None:
        """Where there are none yet. DeepSpeed looks for them once, after its first call of the optimizer."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.zeros((), device=parameter.device),
                        **{key: torch.zeros_like(parameter) for key in MOMENTS},
                    }


class Zero:
    """A module with our own AdamW under DeepSpeed.

    The optimizer is torch's fused AdamW, on the CPU too: DeepSpeed's own compile kernels when they start.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer, distributed: Distributed, dtype: torch.dtype) -> None:
        self.stage = distributed.zero_stage
        self.adamw = GuardedAdamW(
            [parameter for parameter in module.parameters() if parameter.requires_grad],
            lr=optimizer.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=optimizer.weight_decay,
            fused=True,
        )
        deepspeed = import_deepspeed()
        supported = deepspeed.runtime.zero.utils.ZERO_SUPPORTED_OPTIMIZERS
        if GuardedAdamW not in supported:
            supported.append(GuardedAdamW)  # as torch's AdamW is; else it warns
        trained = sum(parameter.numel() for group in self.adamw.param_groups for parameter in group["params"])
        settings = zero_settings(optimizer, distributed, dtype, trained=trained)
        with redirect_stdout(io.StringIO()):  # DeepSpeed prints memory figures here
            if self.stage == 3:
                partition(module, settings, dtype)
            self.engine, *_ = deepspeed.initialize(model=module, optimizer=self.adamw, config=settings)
        if self._plain:
            self.engine.clip_fp32_gradients = self._clip
        self._most, self._sound = optimizer.skip_grad_norm or math.inf, True
        self.adamw.allowed = lambda: self._sound and self.grad_norm <= self._most

    @property
    def grad_norm(self) -> float:
        """Of the whole gradient before clipping, known when DeepSpeed calls the optimizer; NaN if it is not finite."""
        norm = float(self.engine.optimizer._global_grad_norm)
        return norm if 0.0 <= norm < math.inf else math.nan  # DeepSpeed says -1 or infinity

    def step(self, learning_rate: float, *, sound: bool = True) -> bool:
        """Clip, update the weights and clear the gradient; whether the update was taken.

        It is left out where it is not `sound`, and where the gradient norm is not finite or above `skip_grad_norm`.
        """
        self._sound, self.adamw.took_step = sound, False  # DeepSpeed may not even call it
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        return self.adamw.took_step

    def set_steps_done(self, steps: int) -> None:
        """Continue Adam's bias correction after so many steps."""
        for state in self.adamw.state.values():
            state["step"].fill_(steps)

    def whole(self, *parameters: nn.Parameter, modified: bool = False) -> AbstractContextManager[None]:
        """Inside, the parameters are whole everywhere; ZeRO-3 partitions them again afterwards.

        `modified`: as rank 0 left them.
        """
        if self.stage < 3:
            return nullcontext()
        gathered: AbstractContextManager[None] = import_deepspeed().zero.GatheredParameters(
            list(parameters), modifier_rank=0 if modified else None
        )
        return gathered

    def own_part(self, parameter: nn.Parameter, rank: int, *, keeper: int) -> tuple[int, dict[str, Tensor]] | None:
        """`weight`, `exp_avg` and `exp_avg_sq` as far as this rank holds them: nothing is gathered.

        Args:
            parameter: of the model.
            rank: this one.
            keeper: the rank that gives a parameter of which all hold the whole (stage 0).

        Returns:
            Where in the flattened parameter the part begins, and the float32 parts, flat; None where there is none.
        """
        if self.stage == 0:
            if rank != keeper:
                return None
            master = self._master(parameter)
            whole = {"weight": master.detach(), **{key: self.adamw.state[master][key] for key in MOMENTS}}
            return 0, {kind: tensor.flatten() for kind, tensor in whole.items()}
        if self.stage == 3:
            return self._own_partition(parameter, rank)
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is None:
            return None
        parts = {"weight": mapping.get_hp_fragment(), **{key: mapping.get_hp_fragment(key) for key in MOMENTS}}
        return mapping.lp_fragment_address.start, {kind: tensor.detach() for kind, tensor in parts.items()}

    def _own_partition(self, parameter: Any, rank: int) -> tuple[int, dict[str, Tensor]] | None:
        """ZeRO-3 cuts each parameter into equal parts, of which the last are padded."""
        local = parameter._z3_optimizer.get_local_fp32_param
        parts = {"weight": local(parameter), **{key: local(parameter, key) for key in MOMENTS}}
        start = rank * parts["weight"].numel()
        size = min(parts["weight"].numel(), parameter.ds_numel - start)
        return (start, {kind: tensor.detach()[:size] for kind, tensor in parts.items()}) if size > 0 else None

    def set_parameter(self, parameter: nn.Parameter, tensors: Mapping[str, Tensor]) -> None:
        """Restore `weight`, `exp_avg` and `exp_avg_sq`, whole, at any stage; collective over the ranks."""
        if self.stage == 0:
            master = self._master(parameter)
            master.data.copy_(tensors["weight"])
            for key in MOMENTS:
                self.adamw.state[master][key].copy_(tensors[key])
        else:
            utils = import_deepspeed().utils
            utils.safe_set_full_fp32_param(parameter, tensors["weight"].to(parameter.device))
            for key in MOMENTS:
                utils.safe_set_full_optimizer_state(parameter, tensors[key].to(parameter.device), key)
        # The model's own copy: DeepSpeed renews it from the float32 one only after a step.
        with self.whole(parameter, modified=True):
            parameter.data.copy_(tensors["weight"])

    @property
    def _plain(self) -> bool:
        """Stage 0 in float32: DeepSpeed steps our AdamW itself, and neither keeps the norm."""
        return self.engine.optimizer is self.adamw

    def _clip(self) -> None:
        parameters, most = self.engine.module.parameters(), self.engine.gradient_clipping()
        self.adamw._global_grad_norm = torch.nn.utils.clip_grad_norm_(parameters, most)

    def _master(self, parameter: nn.Parameter) -> Tensor:
        """At stage 0, what AdamW updates: the parameter, or its float32 copy where the model is in bfloat16."""
        if self._plain:
            return parameter
        [low_precision], [masters] = self.engine.optimizer.fp16_groups, self.engine.optimizer.fp32_groups
        found: Tensor = next(master for low, master in zip(low_precision, masters) if low is parameter)
        return found


def partition(module: nn.Module, settings: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Cut each parameter into the ranks' parts, as ZeRO-3 would, but without ever holding a whole model on the device.

    Each rank takes its own part of its own copy: of weights that are still in their file it copies no other part.
    (DeepSpeed would move each parameter to the device and send rank 0's to all.) The copies must be the same.

    Args:
        module: on the CPU, in any precision.
        settings: DeepSpeed's.
        dtype: of the parts.
    """
    context = import_deepspeed().zero.Init(module=nn.Module(), config_dict_or_path=settings, dtype=dtype)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
        context._convert_to_deepspeed_param(parameter)
        parameter.partition()  # type: ignore[attr-defined]  # DeepSpeed has just added it
        parameter.data = torch.empty(0, dtype=dtype, device=context.local_device)


def zero_settings(
    optimizer: Optimizer, distributed: Distributed, dtype: torch.dtype, *, trained: int
) -> dict[str, Any]:
    """DeepSpeed's settings for a model of which so many parameters are trained.

    `overlap_comm` is left to DeepSpeed: on a GPU it overlaps at stage 3, where weights are gathered and gradients
    reduced beside the passes; at stage 1 it cannot while we count micro-batches, and at stage 2 it would hold a second
    bucket to overlap one reduction with the copies for the next. On a CPU there are no streams to overlap.
    """
    cpu = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    offload = {}
    if distributed.offload != "none":
        offload["offload_optimizer"] = cpu
    if distributed.offload == "parameters":
        offload["offload_param"] = cpu
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optimizer.grad_clip,
        "bf16": {"enabled": dtype is torch.bfloat16},
        "zero_optimization": {
            "stage": distributed.zero_stage,
            # DeepSpeed takes the whole bucket from the device: a small model, or an adapter, never fills one.
            "reduce_bucket_size": max(1, min(trained, REDUCE_BUCKET)),
            **offload,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if distributed.zero_stage:
        # The sum over micro-batches. In bfloat16 small parts would vanish in a large sum; stage 0 knows no other.
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
