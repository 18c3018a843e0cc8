import pytest
from kfp import dsl

from components.fetch.component import fetch
from fipo.config import load_config


def call(tiny_pipeline, artifact, model):
    registered = artifact("registered", dsl.Model)
    return fetch.python_func(tiny_pipeline.recipe, tiny_pipeline.overrides, model, registered), registered


@pytest.mark.parametrize("reference", ["fipo-tiny", "fipo-tiny@champion", "fipo-tiny/1", "models:/fipo-tiny@candidate"])
def test_brings_the_model_and_leaves_it_as_it_is(tiny_pipeline, artifact, reference):
    overrides, registered = call(tiny_pipeline, artifact, reference)
    config = load_config(tiny_pipeline.recipe, overrides)
    assert (config.run.directory / config.model.name_or_path / "model.safetensors").is_file()
    assert config.sft.steps == 0
    assert registered.metadata["version"] == "1"


@pytest.mark.parametrize(
    ("reference", "message"),
    [("fipo-tiny@", "expected name, name@alias"), ("fipo-tiny@best", "candidate, champion"), ("fipo-tiny/7", "7")],
)
def test_says_what_there_is(tiny_pipeline, artifact, reference, message, capsys):
    with pytest.raises(SystemExit):
        call(tiny_pipeline, artifact, reference)
    assert message in capsys.readouterr().err
