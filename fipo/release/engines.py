"""The servers that fipo starts, and the command line of each. Neither is ours, and both speak OpenAI's protocol."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fipo.config import Config
from fipo.errors import ConfigError
from fipo.release.folder import origin

Engine = Literal["auto", "transformers", "vllm"]


def choose(engine: Engine) -> Literal["transformers", "vllm"]:
    """The engine itself in place of `auto`: vLLM where it is installed and a GPU is there.

    Raises:
        ConfigError: its package is not installed.
    """
    if engine == "auto":
        engine = "vllm" if find_spec("vllm") and Path("/dev/nvidia0").exists() else "transformers"
    needed = {"vllm": ["vllm"], "transformers": ["openai", "fastapi", "uvicorn", "accelerate"]}[engine]
    if missing := [package for package in needed if not find_spec(package)]:
        extra = {"vllm": "vllm", "transformers": "serve"}[engine]
        raise ConfigError(f"--engine {engine}: {', '.join(missing)} not installed here: pip install 'fipo[{extra}]'")
    return engine


def command(
    engine: Literal["transformers", "vllm"], folder: Path, *, host: str, port: int, settings: Config | None
) -> list[str]:
    """What starts the server of the model in `folder`, from the folder above it: clients call it by its name alone."""
    where = ["--host", host, "--port", str(port)]
    if engine == "transformers":
        return [_script("transformers"), "serve", folder.name, *where]
    line = [_script("vllm"), "serve", str(folder), "--served-model-name", folder.name, *where]
    line += ["--load-format", "safetensors"]
    if settings:
        from fipo.rollout.factory import context_of

        line += ["--max-model-len", str(context_of(settings, origin(folder)))]
        line += ["--tensor-parallel-size", str(settings.rollout.tensor_parallel)]
    return line


def environment(scratch: Path) -> dict[str, str]:
    """Of the server: nothing is looked up on the hub, and it is not told the secrets of what fetched the model."""
    secret = ("AWS_", "MLFLOW_", "HF_TOKEN")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
    (scratch / "hub").mkdir()
    return {**ours, "HF_HOME": str(scratch), "HF_HUB_CACHE": str(scratch / "hub"), "HF_HUB_OFFLINE": "1"}


def _script(name: str) -> str:
    """The program beside this Python, or on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return shutil.which(name, path=path) or name
