"""For the tests of components, which lie beside them: artifacts as Kubeflow hands them over."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import pipeline_task

from fipo.storage import open_store


def frames() -> list[inspect.FrameInfo]:
    """`inspect.stack()` without the lines of code."""
    found, frame = [], inspect.currentframe()
    while frame := frame and frame.f_back:
        code = frame.f_code
        found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
    return found


# For an error message kfp looks up its caller, some 70 times a pipeline; Python goes through all modules for each frame
# of it, which takes 20 s a pipeline where torch is one of the modules.
pipeline_task.inspect = SimpleNamespace(stack=frames)


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[str, type[dsl.Artifact]], dsl.Artifact]:
    """`artifact("model", dsl.Model)`: an output artifact with a path of its own."""

    def artifact(name: str, kind: type[dsl.Artifact]) -> dsl.Artifact:
        return kind(name=name, uri=str(tmp_path / name))

    return artifact


@pytest.fixture
def common(tiny_pipeline: Any) -> dict[str, Any]:
    """The arguments that every step's component takes."""
    return {"recipe": tiny_pipeline.recipe, "overrides": tiny_pipeline.overrides}


@pytest.fixture
def page(artifact: Callable[[str, type[dsl.Artifact]], dsl.Artifact]) -> dsl.Artifact:
    """Where a component writes what it did."""
    return artifact("page", dsl.Markdown)


@pytest.fixture
def stored(tiny_pipeline: Any) -> Callable[[dsl.Artifact], dict[str, set[str]]]:
    """Check that an artifact points at what the store holds; returns the names of the files there, by output."""

    def stored(artifact: dsl.Artifact) -> dict[str, set[str]]:
        store = open_store(tiny_pipeline.config.storage_uri)
        pointers = json.loads(Path(artifact.path).read_text())
        assert pointers == artifact.metadata
        files = {}
        for name in [key.removesuffix(".uri") for key in pointers if key.endswith(".uri")]:
            assert len(pointers[f"{name}.sha256"]) == 64
            prefix = pointers[f"{name}.uri"].removeprefix(store.uri).strip("/")
            files[name] = {found.key.removeprefix(prefix).strip("/") for found in store.list(prefix)}
        return files

    return stored
