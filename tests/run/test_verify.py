"""`fipo verify`: each link of the chain, broken in turn."""

import json
from pathlib import Path

import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.run.code import code_digest
from fipo.run.result import digest
from fipo.run.run import Run
from fipo.run.step import STEPS, steps_to
from tests.finished import finish
from tests.overwritten import overwrite


@pytest.fixture
def rows(tmp_path):
    """The file that was trained on."""
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"prompt": "1 + 1", "answer": "2"}) + "\n")
    return path


@pytest.fixture
def config(tmp_path, rows):
    """A run whose model is registered, as far as its store knows."""
    config = load_config("demo", [f"run.directory={tmp_path / 'runs'}", f"data.train=[{{uri: {rows}}}]"])
    reads = {entry for step in STEPS.values() for entry in step.reads if "/" in entry}
    for step in steps_to("register"):
        outputs = {}
        for name in sorted(
            {entry.partition("/")[2].partition(":")[0] for entry in reads if entry.startswith(f"{step}/")}
        ):
            outputs[name] = tmp_path / "made" / step / name
            outputs[name].mkdir(parents=True)
            (outputs[name] / "file").write_text(f"{step} {name}")
        model = {"name": "m", "version": "1", "uri": "", "sha256": ""}
        about = {"code": code_digest(), "record": model if step == "register" else {}}
        finish(config, step, outputs, **about)
    return config


def broken(config):
    return {f"{link.step} {link.what}": link.why for link in Run(config).verify() if link.holds is False}


def stored(config, step, name):
    """The file of an output."""
    (path,) = (config.run.directory / "objects" / "demo" / step).glob(f"*/{name}/file")
    return path


def test_every_claim_of_a_sound_run_holds(config, rows):
    links = {f"{link.step} {link.what}": link for link in Run(config).verify()}
    assert [name for name, link in links.items() if link.holds is not True] == ["register m version 1"]
    assert "MLflow does not say" in links["register m version 1"].why
    assert f"prepare read data.train[0] ({rows})" in links
    reads = sum(len(STEPS[step].reads) for step in steps_to("register"))
    assert sum(" read " in name for name in links) == reads + 1, "and the file"


@pytest.mark.parametrize(("step", "name"), [("prepare", "dataset"), ("train", "model"), ("evaluate", "results")])
@pytest.mark.parametrize("change", ["another byte", "gone"])
def test_an_output_that_was_changed_is_named(config, step, name, change):
    path = stored(config, step, name)
    overwrite(path, path.read_text().replace("e", "E", 1)) if change == "another byte" else path.unlink()
    (why,) = [why for link, why in broken(config).items() if link == f"{step} left {name}"]
    assert "file" in why


def test_a_result_that_was_put_in_the_place_of_another_is_noticed(config):
    """Train says that it read a model which no warm-up has left."""
    for path in (config.run.directory / "objects" / "demo" / "train").rglob("*.json"):
        if path.name == "result.json" or path.parent.name == "results":
            tree = json.loads(path.read_text())
            tree["inputs"]["sft/model"] = "0" * 64
            del tree["sha256"]
            overwrite(path, json.dumps(tree | {"sha256": digest(tree)}))
    assert broken(config) == {"train read sft/model": "sft has left no such model"}


def test_raw_data_that_were_edited_since_are_named_and_absent_ones_cannot_be_told(config, rows):
    rows.write_text("other")
    ((link, why),) = broken(config).items()
    assert link.startswith("prepare read data.train[0]") and why.startswith("is now sha256:")
    rows.unlink()
    assert not broken(config)
    (told,) = [link for link in Run(config).verify() if link.what.startswith("read data.train[0]")]
    assert told.holds is None and "not within reach" in told.why


def test_a_run_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no model is registered"):
        Run(load_config("demo", [f"run.directory={tmp_path}"])).verify()


def test_the_command_proves_a_real_run_and_names_the_first_link_that_does_not_hold(tiny_copy, capsys):
    folder = f"{tiny_copy.removeprefix('run.directory=')}/tiny"
    main(["verify", folder])
    assert "25 of 25 claims hold" in capsys.readouterr().out
    (model,) = Path(folder).parent.glob("objects/tiny/train/*/model/model.safetensors")
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    overwrite(model, bytes(data))
    with pytest.raises(SystemExit) as ended:
        main(["verify", folder])
    assert ended.value.code == 1
    assert "verify: train left model: " in (said := capsys.readouterr().err) and "model.safetensors" in said
