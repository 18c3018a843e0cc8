from importlib import import_module

import pytest
import yaml

from fipo_kfp.components import readme


@pytest.mark.parametrize("name", readme.names())
def test_readme_is_current(name):
    written = (readme.ROOT / name / "README.md").read_text(encoding="utf-8")
    assert written == readme.render(name), "run: python -m components.readme"


@pytest.mark.parametrize("name", readme.names())
def test_metadata_names_the_component(name):
    metadata = yaml.safe_load((readme.ROOT / name / "metadata.yaml").read_text(encoding="utf-8"))
    assert metadata["name"] == name == readme.load(name).name
    assert metadata["stability"] in {"alpha", "beta", "stable"}
    assert [entry["name"] for entry in metadata["dependencies"]["kubeflow"]] == ["Pipelines"]
    assert metadata["tags"] and metadata["lastVerified"]
    assert getattr(import_module(f"fipo_kfp.components.{name}"), name) is readme.load(name)


def test_components_stay_doors():
    for name in readme.names():
        lines = (readme.ROOT / name / "component.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 60, f"{name} has {len(lines)} lines: move its logic to fipo"
