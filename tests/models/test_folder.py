"""A model's folder of anybody's: loaded, or refused in one sentence; nothing outside of it is read."""

import json
import os
import random
import shutil
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fipo.config import Architecture, Model
from fipo.errors import ConfigError
from fipo.models import load_model, load_tokenizer, save_model
from fipo.models.folder import check_folder

MADE = Model(
    architecture=Architecture(
        vocabulary=("0", "1", "2", "}"), hidden_size=8, intermediate_size=8, layers=1, attention_heads=1,
        key_value_heads=1,
    )
)  # fmt: skip
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "model"
    save_model(load_model(MADE), load_tokenizer(MADE), folder)
    return folder


@pytest.fixture
def model(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


def load(folder):
    named = Model(name_or_path=str(folder))
    load_tokenizer(named)
    return load_model(named)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(model, name):
    (model / name).rename(model.parent / "elsewhere")
    (model / name).symlink_to(model.parent / "elsewhere")
    with pytest.raises(ConfigError, match=f"{name} is a link out of the folder"):
        load(model)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_link_to_itself_and_a_folder_are_no_files(model, name):
    (model / name).unlink()
    (model / name).symlink_to(name)
    with pytest.raises(ConfigError, match=f"{name} is a link to nothing"):
        load(model)
    (model / name).unlink()
    (model / name).mkdir()
    with pytest.raises(ConfigError, match=r"model\.name_or_path: .*(directory|model_type)"):
        load(model)


def test_a_configuration_in_a_configuration_that_is_none_is_refused(model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"text_config": {"vocab_size": 3}}))
    with pytest.raises(ConfigError, match=r"no configuration at .*'dict' object has no attribute 'vocab_size'"):
        load(model)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", "chat_template.jinja"])
def test_nobody_waits_for_a_pipe(model, name):
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    with pytest.raises(ConfigError, match=f"{name} is a pipe or a device and no file"):
        load(model)


def test_the_hubs_cache_is_made_of_links(model):
    blobs, snapshot = model.parent / "blobs", model.parent / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    model.rename(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    load(snapshot)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_names_files_of_the_folder(model, name):
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(model / WEIGHTS), name)}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    (model / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match="which is not in the folder"):
        load(model)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.float8_e4m3fn])
def test_whole_numbers_are_no_weights(model, kind):
    save_file({name: tensor.to(kind) for name, tensor in load_file(model / WEIGHTS).items()}, model / WEIGHTS)
    with pytest.raises(ConfigError, match="must hold weights of BF16"):
        load(model)


@pytest.mark.parametrize("length", [2**62, 90 * 2**20, 3])
def test_a_header_longer_than_its_file_is_refused(model, length):
    path = model / WEIGHTS
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(ConfigError, match="is damaged"):
        check_folder(model)


@pytest.mark.parametrize(
    "setting", [{"hidden_size": 2**20}, {"intermediate_size": 2**24}, {"num_hidden_layers": 10**9, "layer_types": None}]
)
def test_no_memory_is_taken_for_a_model_that_is_not_there(model, setting):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    with pytest.raises(ConfigError, match=r"config\.json tells of"):
        load(model)


values = st.none() | st.booleans() | st.sampled_from([0, -1, 1, 3, 2**31, 2**62, 0.5, "x", [], {}, [1], {"a": 1}])


@given(st.data())
@settings(max_examples=20)
def test_any_folder_loads_or_is_refused(made, tmp_path_factory, data):
    folder = shutil.copytree(made, tmp_path_factory.mktemp("any") / "model")
    path = folder / data.draw(st.sampled_from(["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"]))
    if path.name in ("config.json", "tokenizer_config.json") and data.draw(st.booleans()):
        tree = json.loads(path.read_text())
        tree[data.draw(st.sampled_from(sorted(tree)))] = data.draw(values)
        path.write_text(json.dumps(tree))
    else:
        content = bytearray(path.read_bytes())
        generator = random.Random(data.draw(st.integers(0, 10**6)))
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(min(len(content), 400))] = generator.randrange(256)
        path.write_bytes(content[: generator.choice([len(content), generator.randrange(len(content))])])
    try:
        loaded = load(folder)
    except ConfigError:
        return
    assert sum(weight.numel() for weight in loaded.parameters()) < 10_000
