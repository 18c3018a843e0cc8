"""Which inputs a step has, and that their digests change with what is in them and with nothing else."""

import hashlib
import json
import shutil
import sys

import boto3
import pytest
from moto.server import ThreadedMotoServer

from fipo.errors import ConfigError, DataError
from fipo.inputs import ExternalInput, describe, external_inputs
from fipo.inputs.files import files_under

GENERATED = {"generator": {"digits": 2}, "limit": 5}


def write(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def model(tmp_path):
    """A folder as `save_pretrained` leaves it, after a training that left more."""
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"]
    for name in [*names, "README.md", "optimizer.pt", "pytorch_model.bin", ".gitattributes"]:
        write(tmp_path / "model" / name, name)
    return tmp_path / "model"


@pytest.fixture
def start_from(configure):
    def start_from(model):
        return configure(**{"model": {"name_or_path": str(model), "architecture": None}})

    return start_from


def test_each_step_has_the_inputs_that_it_reads(configure, digests, tmp_path, model, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "graders.py")
    train = [GENERATED, {"uri": str(write(tmp_path / "a.jsonl"))}, {"uri": str(write(tmp_path / "b.jsonl"))}]
    config = configure(
        train,
        **{
            "data.sft": [{"uri": str(write(tmp_path / "c.jsonl"))}],
            "model": {"name_or_path": str(model), "architecture": None},
            "reward.functions": {"accuracy": 1.0, "overlong": 1.0, "graders:polite": 0.5},
        },
    )
    assert {step: list(digests(config, step)) for step in ("prepare", "sft", "train", "evaluate", "score")} == {
        "prepare": ["data.train[1]", "data.train[2]", "data.sft[0]", "data.benchmarks.held-out", "model"],
        "sft": ["model"],
        "train": ["reward.functions.graders:polite"],
        "evaluate": [],
        "score": [],
    }


def test_a_grader_of_ones_own_is_an_input_of_the_steps_that_it_drives(configure, digests, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "theirs", "shown"):
        write(tmp_path / f"{name}.py", name)
    config = configure(
        [{**GENERATED, "grader": "mine:grade"}],
        **{
            "data.sft": [{**GENERATED, "grader": "shown:grade"}],
            "data.benchmarks": {"held-out": {**GENERATED, "grader": "theirs:grade"}, "sums": GENERATED},
        },
    )
    train, sft, benchmark = "data.train[0].grader", "data.sft[0].grader", "data.benchmarks.held-out.grader"
    expected = {
        "prepare": [train, sft, benchmark],
        "sft": [],
        "train": [train],
        "evaluate": [benchmark],
        "score": [benchmark],
    }
    before = {step: digests(config, step) for step in expected}
    assert {step: list(found) for step, found in before.items()} == expected
    write(tmp_path / "mine.py", "edited")
    after = {step: digests(config, step) for step in expected}
    assert {step for step in expected if after[step] != before[step]} == {"prepare", "train"}
    with pytest.raises(ConfigError, match=r"data\.train\[0\]\.grader: there is no module 'gone'"):
        digests(configure([{**GENERATED, "grader": "gone:grade"}]), "prepare")


def test_what_the_settings_make_is_no_external_input(configure, digests):
    config = configure([GENERATED], **{"data.benchmarks": {"sums": GENERATED}})
    assert [digests(config, step) for step in ("prepare", "sft", "train")] == [{}, {}, {}]


def test_a_file_is_its_contents(configure, digests, tmp_path):
    path = write(tmp_path / "my problems.jsonl", '{"prompt": "1", "answer": "1"}')

    def digest(uri):
        return digests(configure([{"uri": uri}]), "prepare")["data.train[0]"]

    before = digest(str(path))
    assert before == "sha256:" + hashlib.sha256(b'{"prompt": "1", "answer": "1"}').hexdigest()
    path.touch()
    assert digest(path.as_uri()) == before  # file:///…/my%20problems.jsonl
    assert digest(str(path.rename(tmp_path / "renamed.jsonl"))) == before
    write(tmp_path / "renamed.jsonl", '{"prompt": "1", "answer": "2"}')
    assert digest(str(tmp_path / "renamed.jsonl")) != before


def test_a_relative_path_is_where_the_process_is(configure, tmp_path, monkeypatch):
    write(tmp_path / "here" / "a.jsonl", "12345")
    monkeypatch.chdir(tmp_path / "here")
    (found,) = external_inputs(
        configure([{"uri": "a.jsonl"}], **{"data.benchmarks": {"sums": GENERATED}}), "prepare", cache=tmp_path / "cache"
    ).values()
    assert (found.uri, found.size) == ("a.jsonl", 5)


@pytest.fixture
def data_set(tmp_path):
    """A folder in the hub's layout; each file has one row that names it."""
    folder, outside = tmp_path / "set", tmp_path / "outside"
    for name in ["a.jsonl", "sub/b.jsonl", "__c.jsonl", ".hidden.jsonl", ".git/d.jsonl", "__cache/e.jsonl"]:
        write(folder / name, json.dumps({"prompt": name}) + "\n")
    write(outside / "f.jsonl", json.dumps({"prompt": "linked.jsonl"}) + "\n")
    (folder / "linked.jsonl").symlink_to(outside / "f.jsonl")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "broken.jsonl").symlink_to(outside / "nothing")
    return folder


def test_the_files_of_a_data_set_are_those_that_datasets_reads(data_set, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = datasets.load_dataset(str(data_set), split="train")["prompt"]
    assert sorted(rows) == sorted(files_under(data_set)) == ["__c.jsonl", "a.jsonl", "linked.jsonl", "sub/b.jsonl"]


def added(folder):
    write(folder / "new.jsonl")


def renamed(folder):
    (folder / "a.jsonl").rename(folder / "z.jsonl")


def edited_below(folder):
    write(folder / "sub" / "b.jsonl", "other")


def edited_behind_a_link(folder):
    write(folder / "linked.jsonl", "other")


def removed(folder):
    (folder / "a.jsonl").unlink()


def card(folder):
    write(folder / "README.md", "---\nconfigs: []\n---\n")


def settings(folder):
    write(folder / ".huggingface.yaml")


@pytest.mark.parametrize("change", [added, renamed, edited_below, edited_behind_a_link, removed, card, settings])
def test_a_folder_is_its_names_and_contents(configure, digests, data_set, change):
    config = configure([{"uri": str(data_set)}])
    before = digests(config, "prepare")
    write(data_set / ".a.jsonl.swp", "noise")
    assert digests(config, "prepare") == before
    change(data_set)
    after = digests(config, "prepare")
    assert {name for name in before if after[name] != before[name]} == {"data.train[0]"}


def test_a_folder_is_the_same_elsewhere(configure, digests, data_set, tmp_path, monkeypatch):
    before = digests(configure([{"uri": str(data_set)}]), "prepare")
    shutil.copytree(data_set, tmp_path / "copy", symlinks=True)
    assert digests(configure([{"uri": str(tmp_path / "copy")}]), "prepare") == before
    # `datasets` takes a folder of that name before it asks the hub.
    monkeypatch.chdir(tmp_path.parent)
    assert digests(configure([{"uri": f"hf://{tmp_path.name}/copy"}]), "prepare") == before


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("model.safetensors", {"sft"}),
        ("model-00001-of-00002.safetensors", {"sft"}),
        ("model.safetensors.index.json", {"sft"}),
        ("tokenizer.json", {"prepare", "sft"}),
        ("config.json", {"prepare", "sft"}),
        ("chat_template.jinja", {"prepare", "sft"}),
        ("additional_chat_templates/tools.jinja", {"prepare", "sft"}),
        ("vocab.txt", {"prepare", "sft"}),
        ("README.md", set()),
        ("optimizer.pt", set()),
        ("pytorch_model.bin", set()),
        (".gitattributes", set()),
        ("checkpoint-5/model.safetensors", set()),
    ],
)
def test_of_a_models_folder_each_step_sees_what_it_reads(start_from, digests, model, name, changed):
    config = start_from(model)
    before = {step: digests(config, step)["model"] for step in ("prepare", "sft")}
    write(model / name, "other")
    assert {step for step in before if digests(config, step)["model"] != before[step]} == changed


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="problems")
    yield client
    server.stop()


def test_an_object_is_its_etag_and_size(bucket, configure, digests):
    config = configure([{"uri": "s3://problems/raw/math.jsonl"}])
    seen = []
    for body in (b"one", b"two", b"two", b"three"):
        bucket.put_object(Bucket="problems", Key="raw/math.jsonl", Body=body)
        seen.append(digests(config, "prepare")["data.train[0]"])
    # Of an object put in one part, S3 gives the MD5.
    assert seen == [f"s3:{hashlib.md5(body).hexdigest()}:{len(body)}" for body in (b"one", b"two", b"two", b"three")]
    with pytest.raises(
        DataError, match=r"data\.train\[0\]\.uri: .*s3://problems/raw/other\.jsonl: no such object; expe"
    ):
        digests(configure([{"uri": "s3://problems/raw/other.jsonl"}]), "prepare")


@pytest.fixture
def graders(tmp_path, monkeypatch, configure, digests):
    """A package with reward functions, what lies beside it, and the digest that the training step has of it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "graders" / "__init__.py", "raise RuntimeError('imported')")
    write(tmp_path / "graders" / "style.py", "import fipo.batch\nfrom .words import WORDS\nimport spelling.rules\n")
    write(tmp_path / "graders" / "words.py", "WORDS = 1")
    write(tmp_path / "spelling" / "rules.py", "from punctuation import MARKS\n")
    write(tmp_path / "punctuation.py", "MARKS = 1")
    write(tmp_path / "unrelated.py", "")

    def digest(name="graders.style:polite"):
        return digests(configure(**{"reward.functions": {"accuracy": 1.0, name: 0.5}}), "train").get(
            f"reward.functions.{name}"
        )

    return digest


@pytest.mark.parametrize(
    ("file", "seen"),
    [
        ("graders/style.py", True),
        ("graders/__init__.py", True),
        ("graders/words.py", True),
        ("graders/new.py", True),
        ("spelling/rules.py", True),
        ("punctuation.py", True),
        ("unrelated.py", False),
        ("words.py", False),
        ("fipo/batch.py", False),
        ("graders/__pycache__/style.py", False),
        ("graders/notes.txt", False),
    ],
)
def test_a_reward_function_is_the_sources_that_it_is_made_of(graders, tmp_path, file, seen):
    before = graders()
    write(tmp_path / file, "# edited")
    assert (graders() != before) == seen
    assert "graders" not in sys.modules


def test_a_reward_function_in_a_single_file(graders, tmp_path):
    write(tmp_path / "single.py", "import unrelated, broken\n")
    write(tmp_path / "broken.py", "no python at all")
    before = graders("single:f")
    write(tmp_path / "unrelated.py", "# edited")
    assert graders("single:f") != before


def test_a_reward_functions_sources_are_the_same_elsewhere(graders, tmp_path, monkeypatch):
    before = graders()
    for name in ("graders", "spelling", "punctuation.py"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    assert graders() == before


def test_of_what_is_installed_the_package_counts_and_not_its_neighbours(graders, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    write(installed / "brief" / "__init__.py", "import other")
    write(installed / "other.py")
    write(installed / "brief-1.0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: brief\nVersion: 1.0\n")
    write(installed / "brief-1.0.dist-info" / "entry_points.txt", "[fipo.rewards]\nbrevity = brief:brevity\n")
    monkeypatch.syspath_prepend(str(installed))
    before = graders("brevity")  # by its entry point
    assert before == graders("brief:brevity")
    write(installed / "other.py", "# edited")
    assert graders("brevity") == before
    write(installed / "brief" / "__init__.py", "# edited, under the same version")
    assert graders("brevity") != before


def test_what_is_built_in_has_no_sources(graders):
    assert graders("accuracy") is None
    assert graders("sys:getsizeof") == "sha256:" + hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "data.train",
            [GENERATED, {"uri": "/no/a"}],
            r"data\.train\[1\]\.uri: .*No such file .*'/no/a'; expected a file",
        ),
        ("data.sft", [{"uri": "file:///no/b"}], r"data\.sft\[0\]\.uri: .*'/no/b'; expected a file"),
        ("data.benchmarks", {"aime": {"uri": "/no/c"}}, r"data\.benchmarks\.aime\.uri: .*'/no/c'; expected"),
    ],
)
def test_missing_data_is_named_with_its_setting(configure, digests, setting, value, message):
    with pytest.raises(DataError, match=message):
        digests(configure(**{setting: value}), "prepare")


@pytest.mark.parametrize("name", ["no_such_module:f", "no_such_package.module:f"])
def test_a_missing_reward_function_is_named(graders, name):
    with pytest.raises(
        ConfigError, match=rf"reward\.functions\.{name}: there is no module 'no_such_.*expected package"
    ):
        graders(name)


def test_inputs_are_described_in_a_line():
    inputs = {
        "data.train[0]": ExternalInput("/data/train.jsonl", "sha256:3fa2c1d0ffff", 1234567),
        "data.sft[0]": ExternalInput("s3://bucket/raw/sft.jsonl", "s3:9a0364b9e99bb480dd25e1f0284c8555:12", 12),
        "data.benchmarks.aime": ExternalInput("hf://org/aime", "hub:607a30d783dfa663caf39e06633721c8d4cfcd7e"),
        "model": ExternalInput("Qwen/Qwen2.5-7B", "hub:d149729398750b98c0af14eb82c78cfe92750796"),
        "more": ExternalInput("x", "sha256:00", 1),
    }
    four = (
        "train.jsonl (sha256 3fa2c1d0, 1,234,567 bytes), sft.jsonl (s3 9a0364b9, 12 bytes), org/aime (hub 607a30d7), "
        "Qwen/Qwen2.5-7B (hub d1497293)"
    )
    assert describe(inputs) == f"{four} and 1 more"
    del inputs["more"]
    assert describe(inputs) == four
    assert describe({}) == ""
