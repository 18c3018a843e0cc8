"""Further places for what is logged: read back from TensorBoard's files and from W&B's offline run."""

import logging
import subprocess
import sys

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.tracking import Tracker
from fipo.tracking.also import SINKS, Follower, TensorBoard
from fipo.tracking.client import connect
from tests.tracking.found import PATIENT
from tests.waiting import wait_until


def opened(tracking_uri, folder, *also, name="mine-train", key="mine/train/1"):
    return Tracker.open(
        tracking_uri,
        experiment="also/train",
        run_name=name,
        run_key=key,
        journal=folder / "journal.jsonl",
        also=also,
        also_folder=folder,
        **PATIENT,
    )


def scalars(folder, name="mine-train"):
    """All points of all files of events, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not (folder / "tensorboard").exists():
        return {}
    events = EventAccumulator(
        str(folder / "tensorboard" / "also" / "train" / name), size_guidance={"scalars": 0}
    ).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def chunks(data):
    """The records of W&B's file: seven bytes of header, then a log as LevelDB's, in blocks of 32 KiB."""
    at, begun = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        begun += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield begun
            begun = b""


def own(points):
    return {tag: found for tag, found in points.items() if not tag.startswith("system/")}


def test_tensorboard_has_every_point_once_over_two_attempts(tracking_uri, tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(RuntimeError), opened(tracking_uri, tmp_path, "tensorboard") as tracker:
        tracker.params({"train.learning_rate": 1e-6, "run.name": "a|b"})
        for step in (1, 2, 3):
            tracker.log({"train/loss": step / 4, "rollout/accuracy": 0.5}, step)
        raise RuntimeError("it crashes")
    with opened(tracking_uri, tmp_path, "tensorboard") as tracker:
        tracker.log({"train/loss": 0.75}, 3)  # again, from a checkpoint: it is there already
        tracker.log({"train/loss": 1.0}, 4)
    points = own(scalars(tmp_path))
    assert points == {
        "train/loss": [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)],
        "rollout/accuracy": [(1, 0.5), (2, 0.5), (3, 0.5)],
    }
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name("also/train")
    assert experiment
    [run] = client.search_runs([experiment.experiment_id], "tags.`fipo.run_key` = 'mine/train/1'")
    assert run.data.metrics["train/loss"] == 1.0, "MLflow has the same"


def test_tensorboard_sees_a_step_while_it_runs(tracking_uri, tmp_path):
    pytest.importorskip("tensorboard")
    with opened(tracking_uri, tmp_path, "tensorboard", key="mine/train/2") as tracker:
        tracker.log({"train/loss": 0.5}, 1)
        wait_until(lambda: own(scalars(tmp_path)) == {"train/loss": [(1, 0.5)]})


def test_wandb_offline_has_config_and_metrics_over_their_steps(tracking_uri, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with opened(tracking_uri, tmp_path, "wandb", key="mine/train/3") as tracker:
        tracker.params({"train.learning_rate": 1e-6})
        tracker.log({"train/loss": 0.25}, 7)
    [record] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    from wandb.proto import wandb_internal_pb2

    rows: list[dict[str, str]] = []
    config: dict[str, str] = {}
    names: list[str] = []
    for data in chunks(record.read_bytes()):
        parsed = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        parsed.ParseFromString(data)
        names += [parsed.run.display_name] if parsed.WhichOneof("record_type") == "run" else []
        for item in [*parsed.config.update, *parsed.run.config.update]:
            config[item.key or "/".join(item.nested_key)] = item.value_json
        rows.append({item.key or "/".join(item.nested_key): item.value_json for item in parsed.history.item})
    [logged] = [row for row in rows if "train/loss" in row]
    assert logged["train/loss"] == "0.25" and logged["step"] == "7" and "mine-train" in names
    assert config["train.learning_rate"] == '"1e-06"'


def test_a_place_that_fails_is_told_of_once_and_nothing_waits_for_it(tracking_uri, tmp_path, monkeypatch, caplog):
    tried = []

    class Broken(TensorBoard):
        def __init__(self, run, folder):
            tried.append(run)
            raise OSError("no room")

    monkeypatch.setitem(SINKS, "tensorboard", Broken)
    monkeypatch.setattr("fipo.tracking.also.find_spec", lambda name: name)
    monkeypatch.setattr("fipo.tracking.also._IDLE_SECONDS", 0.01)
    with caplog.at_level(logging.WARNING), opened(tracking_uri, tmp_path, "tensorboard", key="mine/train/4") as tracker:
        tracker.log({"train/loss": 0.5}, 1)
        wait_until(lambda: len(tried) > 2)
    assert len([one for one in caplog.messages if "tensorboard" in one and "no room" in one]) == 1
    assert tracker.drained, "MLflow has all of it"


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("fipo.tracking.also.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tracking.also: wandb is not installed here: pip install 'fipo\[wandb\]'"):
        Follower("wandb", tmp_path / "journal.jsonl", tmp_path)


def test_the_setting_names_places(tmp_path):
    assert load_config("demo", ["tracking.also=[tensorboard, wandb]"]).tracking.also == ("tensorboard", "wandb")
    with pytest.raises(ConfigError, match=r"tracking\.also"):
        load_config("demo", ["tracking.also=[notebook]"])
    code = "import sys, fipo.tracking.also; print({'torch', 'wandb', 'tensorboard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
