"""`python -m fipo.doctor.model CONFIG`: the recipe's model in trainer and engine, once around, on one rank."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fipo.config import Config, Model, load_config
from fipo.distributed.bootstrap import World, join_world
from fipo.distributed.engine import TrainingEngine, weights_dtype
from fipo.doctor.workers import tell
from fipo.errors import AdmissionError, ConfigError
from fipo.findings import Finding
from fipo.models import load_model, load_stops, load_tokenizer, save_model
from fipo.models.reference import link_model, published_weights
from fipo.rollout.factory import open_engine
from fipo.rollout.installed import require_engine
from fipo.training.admission import admit
from fipo.training.job import Job

MOST_BYTES = {"cpu": 400e6, "cuda": 8e9}
"""Of weights that a minute is enough for; admission itself comes before the first step of every run."""


def main() -> None:
    """Tell what is found."""
    config = load_config(Path(sys.argv[1]))
    with join_world(config.distributed, seed=config.run.seed) as world:
        for finding in look(config, world):
            tell(finding)


def look(config: Config, world: World) -> list[Finding]:
    """Engine, its start, sleep and waking with other weights, and what admission measures."""
    engine = config.rollout.engine
    try:
        require_engine(engine)
    except ConfigError as error:
        return [Finding("engine", "failed", str(error))]
    if engine == "served":
        return [Finding("engine", "not here", "served: its servers are asked when training starts")]
    if config.model.architecture is None:
        size = _bytes(config.model)
        if size is None:
            return [Finding("model", "not here", f"{config.model.name_or_path} is not on this machine")]
        if size > MOST_BYTES[world.device.type]:
            return [
                Finding(
                    "model",
                    "not here",
                    f"{size / 1e9:.1f} GB of weights are too much for a minute; a run's admission looks at them",
                )
            ]
    with tempfile.TemporaryDirectory(prefix="fipo-doctor-model-") as folder:
        return _once_around(config, world, Path(folder))


def _once_around(config: Config, world: World, folder: Path) -> list[Finding]:
    tokenizer = load_tokenizer(config.model)
    if config.model.architecture:
        save_model(load_model(config.model, seed=config.run.seed), tokenizer, folder)
    else:
        link_model(config.model, tokenizer, folder)
    start, dtype = Model(name_or_path=str(folder)), weights_dtype(config.distributed, world.device)
    uncompiled = config.distributed.model_copy(update={"compile_layers": False})  # that alone takes half a minute
    trainer = TrainingEngine(load_model(start, dtype=dtype), config.train, uncompiled, world)
    rollout = open_engine(config, folder, tokenizer, dtype=dtype, device=world.device, rank=0, trained=trainer.model)
    nothing: Any = SimpleNamespace(step="doctor", report=lambda *_: None)
    job = Job(config, world, nothing, None, nothing)
    text = "1 2 3" if config.model.architecture else "What is 1 + 2?"
    prompts = [tokenizer(text).input_ids or [tokenizer.pad_token_id]]
    try:
        told = admit(job, trainer, tokenizer, load_stops(start, tokenizer), prompts, rollout)
        rollout.load_weights(trainer.weights(), version=1)
        rollout.sleep()
    except AdmissionError as error:
        return [Finding("model", "failed", str(error).replace("\n", "; "))]
    finally:
        rollout.close()
    gaps = ", ".join(f"{one.name} {one.figure:.1e}" for one in told.checks if one.unit == "nats")
    return [
        Finding("engine", "ok", f"{config.rollout.engine}: started, slept, and woke with other weights"),
        Finding("model", "ok", f"{told.model} is admitted ({told.precision}, {told.device}); apart in nats: {gaps}"),
    ]


def _bytes(model: Model) -> int | None:
    """Of the weights that are here; the hub is not asked."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        return sum(path.stat().st_size for path in published_weights(model))
    except (ConfigError, OSError):
        return None


if __name__ == "__main__":
    main()
