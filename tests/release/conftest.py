"""Servers as processes, started by the command that users type."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from fipo.config import Architecture, Model
from fipo.models import load_model, load_tokenizer, save_model
from tests.present import present
from tests.waiting import free_port

MODEL = Model(
    architecture=Architecture(
        vocabulary=("0", "1", "2", "3", "+", "="), hidden_size=16, intermediate_size=16, layers=1, attention_heads=2,
        key_value_heads=1, max_position_embeddings=64,
    )
)  # fmt: skip


@dataclass
class Serving:
    """A `fipo serve` and what it has printed."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_until_ready(self):
        """The address it names, and the curl command."""
        printed = present(self.process.stdout)
        for line in printed:
            self.lines.append(line.rstrip())
            if self.lines[-1].startswith("curl "):
                threading.Thread(target=printed.read, daemon=True).start()
                return present(re.fullmatch(r"ready: (http://\S+)/v1", self.lines[-2]))[1], self.lines[-1]
        raise AssertionError("\n".join(self.lines))


@contextlib.contextmanager
def fipo_serve(*arguments, environment=None):
    command = [sys.executable, "-m", "fipo.cli", "serve", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(environment or {})}
    )
    try:
        yield Serving(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        process.wait(600)


@pytest.fixture
def mlflow_restarts():
    """Each kind of request to MLflow's registry finds nobody the first time; the kinds that were tried so."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    tried = set()

    def at_first(name, ask):
        def request(*args, **kwargs):
            if name not in tried:
                tried.add(name)
                raise MlflowException("API request failed with exception: Connection refused")
            return ask(*args, **kwargs)

        return request

    words = ("registered_model", "model_version")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in dir(MlflowClient) if any(word in name for word in words)]:
            patch.setattr(MlflowClient, name, at_first(name, getattr(MlflowClient, name)))
        patch.setattr("fipo.release.registry.POLL_SECONDS", 0.0)
        yield tried


@pytest.fixture(scope="session")
def tools():
    return SimpleNamespace(free_port=free_port, fipo_serve=fipo_serve)


@pytest.fixture
def small(tmp_path):
    """A folder with a model of this seed, without the settings of a run."""

    def small(seed=0, name="small", rows=0):
        """Of so many words, where the tokenizer is to be given more than the model's own."""
        folder = tmp_path / name
        model = load_model(MODEL, seed=seed)
        if rows:
            model.resize_token_embeddings(rows)
        save_model(model, load_tokenizer(MODEL), folder)
        return folder

    return small
