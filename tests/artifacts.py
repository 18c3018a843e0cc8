"""For the tests of components, which lie beside them: artifacts as Kubeflow hands them over."""

import json
from pathlib import Path

import pytest
from kfp import dsl

from fipo.storage import open_store


@pytest.fixture
def artifact(tmp_path):
    """`artifact("model", dsl.Model)`: an output artifact with a path of its own."""

    def artifact(name, kind):
        return kind(name=name, uri=str(tmp_path / name))

    return artifact


@pytest.fixture
def common(tiny_pipeline):
    """The arguments that every step's component takes."""
    return {"recipe": tiny_pipeline.recipe, "overrides": tiny_pipeline.overrides}


@pytest.fixture
def page(artifact):
    """Where a component writes what it did."""
    return artifact("page", dsl.Markdown)


@pytest.fixture
def stored(tiny_pipeline):
    """Check that an artifact points at what the store holds; returns the names of the files there, by output."""

    def stored(artifact):
        store = open_store(tiny_pipeline.config.storage_uri)
        pointers = json.loads(Path(artifact.path).read_text())
        assert pointers == artifact.metadata
        files = {}
        for name, pointer in pointers.items():
            if not isinstance(pointer, dict):
                continue
            assert len(pointer["sha256"]) == 64
            prefix = pointer["uri"].removeprefix(store.uri).strip("/")
            files[name] = {found.key.removeprefix(prefix).strip("/") for found in store.list(prefix)}
        return files

    return stored
