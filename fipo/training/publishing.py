"""The outputs of a step that trained a model: the model, and its adapter if it was trained by one."""

from __future__ import annotations

import shutil

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.distributed.engine import TrainingEngine
from fipo.models import load_model, save_model
from fipo.models.lora import save_adapter
from fipo.models.reference import link_model
from fipo.training.job import Job


def publish(
    job: Job, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, state_dict: dict[str, Tensor]
) -> None:
    """The output `model`, which `from_pretrained` loads; `state_dict` replaces the model's own.

    Of a model with an adapter it is the sum of both, so that all who read the output need not know of it.
    """
    if job.attempt:
        folder = job.workspace.directory / "model"
        save_model(model, tokenizer, folder, state_dict)
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
    tensors, settings = engine.adapter(), job.config.model.lora
    if job.attempt and settings and tensors:
        folder = job.workspace.directory / "adapter"
        save_adapter(tensors, settings, base, folder)
        job.attempt.publish("adapter", folder)
