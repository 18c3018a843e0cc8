"""A model that nothing is trained of is published as it is: not read, not cast, not copied."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fipo.config import Architecture, Model
from fipo.errors import ConfigError
from fipo.models import context_of, load_model, load_model_config, load_stops, load_tokenizer
from fipo.models.reference import link_model
from fipo.storage import open_store, upload_directory
from tests import instruct_model


@pytest.fixture(params=["1GB", "20KB"], ids=["one file", "several files"])
def source(request, tmp_path):
    folder = instruct_model.make(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size=request.param)
    return folder


def test_its_files_are_linked_and_published_as_they_are(source, tmp_path):
    model, there = Model(name_or_path=str(source), max_position_embeddings=4096), tmp_path / "published"
    tokenizer = load_tokenizer(model)
    link_model(model, tokenizer, there)
    link_model(model, tokenizer, there)  # an attempt that begins anew
    weights = sorted(path.name for path in source.glob("*.safetensors"))
    assert (len(weights) == 1) == (source / "model.safetensors").exists()
    assert sorted(path.name for path in there.glob("*.safetensors")) == weights
    assert all((there / name).is_symlink() for name in weights)

    store = open_store(f"file://{tmp_path}/store")
    upload_directory(store, there, "m")
    stored = tmp_path / "store" / "m"
    for name in weights:
        assert (stored / name).read_bytes() == (source / name).read_bytes()
        assert {tensor.dtype for tensor in load_file(stored / name).values()} == {torch.bfloat16}
    found = Model(name_or_path=str(stored))
    assert load_model_config(found).max_position_embeddings == 4096
    assert load_stops(found, tokenizer) == load_stops(model, tokenizer)
    assert load_tokenizer(found).get_vocab() == tokenizer.get_vocab()
    loaded = load_model(found, dtype=torch.bfloat16)
    for name, weight in load_model(Model(name_or_path=str(source)), dtype=torch.bfloat16).named_parameters():
        assert torch.equal(weight, loaded.get_parameter(name))


def test_one_without_weights_is_refused(source, tmp_path):
    for path in source.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ConfigError, match="safetensors"):
        link_model(Model(name_or_path=str(source)), load_tokenizer(Model(name_or_path=str(source))), tmp_path / "p")


def test_its_context_is_that_of_the_model_that_is_loaded(source):
    assert context_of(Model(name_or_path=str(source))) == 8192
    assert context_of(Model(name_or_path=str(source), max_position_embeddings=64)) == 64, "as the setting lengthens it"
    words = ("0", "1", "\\boxed{", "}")
    assert context_of(Model(architecture=Architecture(vocabulary=words, max_position_embeddings=96))) == 96
