"""Models and tokenizers: made, saved, loaded; safetensors only."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer

from fipo.config import Architecture, Model
from fipo.errors import ConfigError
from fipo.models import load_model, load_tokenizer, save_model

MADE = Model(
    architecture=Architecture(
        vocabulary=("0", "1", "Add", r"\boxed{", "}"), hidden_size=16, intermediate_size=32, attention_heads=2,
        key_value_heads=1,
    )
)  # fmt: skip


def test_the_seed_determines_the_weights():
    one, same, other = (load_model(MADE, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_was_saved_is_loaded(tmp_path):
    model, tokenizer = load_model(MADE, seed=1), load_tokenizer(MADE)
    save_model(model, tokenizer, tmp_path)
    saved = Model(name_or_path=str(tmp_path))
    loaded = load_model(saved).state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in model.state_dict().items())
    assert (tmp_path / "model.safetensors").is_file()
    text = r"1 0 \boxed{ 1 }"
    for again in (load_tokenizer(saved), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(text).input_ids == tokenizer(text).input_ids == [3, 2, 5, 3, 6]
        assert again.decode(tokenizer(text).input_ids) == text
        assert (again.pad_token_id, again.eos_token_id) == (0, 1)


def test_a_longer_context_stays_with_the_model(tmp_path):
    save_model(load_model(MADE), load_tokenizer(MADE), tmp_path / "short")
    longer = load_model(Model(name_or_path=str(tmp_path / "short"), max_position_embeddings=1024))
    assert longer.config.max_position_embeddings == 1024
    save_model(longer, load_tokenizer(MADE), tmp_path / "long")
    again = load_model(Model(name_or_path=str(tmp_path / "long")))
    assert again.config.max_position_embeddings == 1024
    ids = torch.tensor([[2, 3, 4] * 200])
    assert torch.equal(again(ids).logits, longer(ids).logits)


def test_pickled_weights_are_refused(tmp_path):
    model, tokenizer = load_model(MADE), load_tokenizer(MADE)
    save_model(model, tokenizer, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"model\.name_or_path.*safetensors"):
        load_model(Model(name_or_path=str(tmp_path)))


def saved(folder):
    save_model(load_model(MADE), load_tokenizer(MADE), folder)
    return Model(name_or_path=str(folder))


def rewrite(path, change):
    """Change the header of a safetensors file: 8 bytes of length, JSON, tensors."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def other_shape(header):
    header["model.norm.weight"]["shape"] = [99]


def other_place(header):
    header["model.norm.weight"]["data_offsets"] = [0, 10**9]


def other_type(header):
    header["model.norm.weight"]["dtype"] = "F99"


@pytest.mark.parametrize("lie", [other_shape, other_place, other_type])
def test_headers_that_lie_are_named(tmp_path, lie):
    model = saved(tmp_path)
    rewrite(tmp_path / "model.safetensors", lie)
    with pytest.raises(ConfigError, match=r"model\.name_or_path: no safetensors model.*header"):
        load_model(model)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 2000], ids=["empty", "short", "huge length"])
def test_files_that_are_no_safetensors_are_named(tmp_path, content):
    model = saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.name_or_path: no safetensors model"):
        load_model(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model.layers.1.mlp.down_proj.weight", [float("nan")]),
        ("model.embed_tokens.weight", [float("inf")]),
        ("model.norm.weight", [float("inf"), -float("inf")]),
    ],
)
def test_weights_that_are_not_finite_are_named(tmp_path, dtype, name, values):
    model = load_model(MADE)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[3 : 3 + len(values)] = torch.tensor(values)
    save_model(model.to(dtype), load_tokenizer(MADE), tmp_path)
    with pytest.raises(ConfigError, match=rf"model\.name_or_path: .*finite numbers; {name} holds NaN or infinity"):
        load_model(Model(name_or_path=str(tmp_path)), dtype=dtype)


def test_large_weights_are_finite(tmp_path):
    model = load_model(MADE)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(60_000.0)  # whose sum no half holds
    save_model(model.half(), load_tokenizer(MADE), tmp_path)
    load_model(Model(name_or_path=str(tmp_path)), dtype=torch.float16)


def test_truncated_weights_are_named(tmp_path):
    model = saved(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])
    with pytest.raises(ConfigError, match=r"not fully covered"):
        load_model(model)


def test_missing_weights_are_not_made_up(tmp_path):
    model = saved(tmp_path)
    rewrite(tmp_path / "model.safetensors", lambda h: h.update({"model.other.weight": h.pop("model.norm.weight")}))
    with pytest.raises(ConfigError, match=r"1 are missing, such as model\.norm\.weight$"):
        load_model(model)


@pytest.mark.parametrize(
    ("setting", "value", "wrong"),
    [
        (
            "intermediate_size",
            40,
            r"6 are of another shape, such as model.layers.0.mlp.down_proj.weight, \(16, 32\) for",
        ),
        ("vocab_size", 5, r"1 are of another shape, such as model.embed_tokens.weight, \(7, 16\) for \(5, 16\)"),
        ("attention_bias", True, "8 are missing, such as model.layers.0.self_attn.k_proj.bias"),
        ("num_hidden_layers", 3, "num_hidden_layers"),
        ("num_hidden_layers", "two", "num_hidden_layers"),
    ],
)
def test_weights_of_another_configuration_are_named(tmp_path, setting, value, wrong):
    model = saved(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))
    with pytest.raises(ConfigError, match=wrong):
        load_model(model)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path):
    model, tokenizer = saved(tmp_path), load_tokenizer(MADE)
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has tokens up to 8; the model embeds 7, up to 6"):
        load_tokenizer(model)


PROGRAM = """
import sys
from fipo import config, errors, models
for load in (models.load_model, models.load_model_config, models.load_tokenizer):
    try:
        load(config.Model(name_or_path=sys.argv[1]))
    except errors.ConfigError as error:
        assert "needs code of its own, which fipo does not run" in str(error), error
        print("refused")
"""


def test_no_code_of_a_folder_is_run_and_nobody_is_asked(tmp_path):
    saved(tmp_path)
    file = tmp_path / "config.json"
    classes = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": "own.T"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "own", "auto_map": classes}))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, input="y\n" * 5, capture_output=True, text=True, timeout=600)
    assert done.stdout == "refused\n" * 3, done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_folder_that_is_not_there_is_named(load, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.name_or_path.*nowhere"):
        load(Model(name_or_path=str(tmp_path / "nowhere")))


def test_repeated_words_are_refused():
    with pytest.raises(ConfigError, match="vocabulary"):
        load_tokenizer(Model(architecture=Architecture(vocabulary=("a", "a"))))
