"""The outputs of a step that trained a model: the model, and its adapter if it was trained by one."""

from __future__ import annotations

import shutil

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.config import Model
from fipo.distributed.engine import TrainingEngine
from fipo.models import load_model, load_model_config, save_model
from fipo.models.lora import save_adapter
from fipo.models.precision import kept_share
from fipo.models.reference import link_model, weights_of
from fipo.training.job import Job

KEPT = 0.9
"""Share of what training has changed that `model.published_precision: auto` asks of the model's own precision."""


def publish(
    job: Job, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, state_dict: dict[str, Tensor], start: Model
) -> None:
    """The output `model`, which `from_pretrained` loads; `state_dict` replaces the model's own.

    Of a model with an adapter it is the sum of both, so that all who read the output need not know of it. What it was
    trained from, `start`, says in which precision it is published.
    """
    if job.attempt:
        folder = job.workspace.directory / "model"
        save_model(model, tokenizer, folder, state_dict, _precision(job, model.dtype, state_dict, start))
        job.attempt.publish("model", folder)
        shutil.rmtree(folder)  # the object store has it; a second copy would only take room


def publish_start(job: Job, tokenizer: PreTrainedTokenizerBase) -> None:
    """The output `model` where nothing is trained: the model as it is, in its own precision; rank 0 alone works.

    One that a recipe describes is made; of any other the files are published as they are.
    """
    if not job.attempt:
        return
    folder, model = job.workspace.directory / "model", job.config.model
    if model.architecture:
        save_model(load_model(model, seed=job.config.run.seed), tokenizer, folder)
    else:
        link_model(model, tokenizer, folder)
    job.attempt.publish("model", folder)


def publish_adapter(job: Job, engine: TrainingEngine, *, base: str) -> None:
    """The output `adapter`, if one was trained: for peft, or a server that has the base already; collective.

    `base`: the name or address of what it belongs to.
    """
    settings = job.config.model.lora
    if settings:
        job.world.meet()  # rank 0 has published the model, and the adapter is gathered
    tensors = engine.adapter()
    if job.attempt and settings and tensors:
        folder = job.workspace.directory / "adapter"
        save_adapter(tensors, settings, base, folder)
        job.attempt.publish("adapter", folder)


def _precision(job: Job, trained: torch.dtype, state_dict: dict[str, Tensor], start: Model) -> torch.dtype:
    """In which the model is published: never wider than it was trained in, nor than `start` was."""
    own, wanted = None if start.architecture else load_model_config(start).dtype, job.config.model.published_precision
    if trained is not torch.float32 or own not in (torch.bfloat16, torch.float16) or wanted == "trained":
        return trained
    share = kept_share(state_dict, weights_of(start), own)
    if share is None or (wanted == "auto" and share < KEPT):
        kept = "an unknown share" if share is None else f"{share:.0%}"
        job.say(f"published in float32: {own}, the model's own precision, would keep {kept} of what was learned")
        return trained
    job.say(f"published in {own}, the model's own precision: that keeps {share:.0%} of what was learned")
    return own
