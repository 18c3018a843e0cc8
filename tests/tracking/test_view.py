"""MLflow shows what matters first: the view that fipo makes of an experiment's charts, by MLflow's own page."""

import base64
import json
import shutil
import zlib

import pytest

from docs.screenshots import chromium, wait
from fipo.tracking import Tracker, view
from fipo.tracking.client import NOTE, connect
from fipo.tracking.metric_names import METRICS
from tests.tracking.found import PATIENT

FOUND = shutil.which("chromium") or shutil.which("chromium-browser")
LOGGED = (
    *("perf/step_seconds", "rollout/accuracy", "rollout/response_tokens_mean", "train/dropped_fraction"),
    *("train/learning_rate", "train/grad_norm"),
)


def charts(tags):
    """Metrics by section, in their order."""
    state = json.loads(zlib.decompress(base64.b64decode(tags[view.TAG].removeprefix("deflate;"))))
    names = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    for chart in state["compareRunCharts"]:
        found[names[chart["metricSectionId"]]].append(chart["metricKey"])
    return found


def test_accuracy_and_length_first_and_housekeeping_last():
    tags = view.tag_of("mine/train")
    assert len(tags[view.TAG]) < 5000, "what MLflow takes of a tag"
    found = charts(tags)
    assert list(found) == [
        "First", "train", "rollout", "validation", "Housekeeping", "perf", "checkpoint", "system"
    ]  # fmt: skip
    assert found["First"][:2] == ["rollout/accuracy", "rollout/response_tokens_mean"]
    assert "train/learning_rate" in found["Housekeeping"] and "train/learning_rate" not in found["train"]
    all_of_them = [name for section in found.values() for name in section]
    prefixes = ("train/", "rollout/", "validation/", "perf/", "checkpoint/", "system/")
    assert sorted(all_of_them) == sorted(
        metric.name for metric in METRICS if metric.name.startswith(prefixes) and "<" not in metric.name
    )
    assert charts(view.tag_of("mine/sft"))["First"] == ["sft/loss", "sft/validation_loss"]
    assert view.tag_of("mine/gate") == view.tag_of("mine") == {}


@pytest.fixture
def experiment(server, tmp_path):
    """One that has a run, as MLflow has it."""
    client = connect(server.uri)

    def logged(name="order/train"):
        with Tracker.open(
            server.uri, run_name="r", run_key="k", experiment=name, journal=tmp_path / "journal.jsonl", **PATIENT
        ) as tracker:
            for step in (1, 2):
                tracker.log(dict.fromkeys(LOGGED, 0.5 * step), step=step)
        return client.get_experiment_by_name(name)

    return logged


def test_an_experiment_of_another_version_gets_the_view(server, experiment):
    client = connect(server.uri)
    old = client.create_experiment("older/train", tags={view.TAG: "deflate;x", NOTE: "ours"})
    found = experiment("older/train")
    assert found.experiment_id == old
    assert charts(found.tags)["First"] and found.tags[NOTE] == "ours"


@pytest.mark.skipif(not FOUND, reason="no Chromium on this machine")
def test_mlflow_draws_them_in_this_order(server, experiment):
    """The format is MLflow's own and nowhere described: its page is what says whether it is right."""
    found = experiment()
    address = view.address_of(found.experiment_id)
    assert f"({address})" in found.tags[NOTE]
    with chromium() as browser:
        browser.call("Page.enable")
        browser.call("Emulation.setDeviceMetricsOverride", width=1500, height=3000, deviceScaleFactor=1, mobile=False)
        browser.call("Page.navigate", url=f"{server.uri}/{address}")
        told = "document.body ? document.body.innerText : ''"
        wait(lambda: "dropped_fraction" in (browser.script(told) or ""), 120)
        text = browser.script(told)
    assert "Error loading shared view state" not in text
    shown = [text.index(name) for name in (
        "rollout/accuracy\n", "rollout/response_tokens_mean\n", "train/grad_norm\n", "dropped_fraction\n",
        "Housekeeping\n", "perf\n",
    )]  # fmt: skip
    assert shown == sorted(shown)
    assert "learning_rate\n" not in text and "step_seconds\n" not in text, "folded"
