"""Links that open: pages at the address that browsers reach, and MLflow and Kubeflow that point at each other."""

import re

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.run.identity import identity_settings
from fipo.run.result import StepResult
from fipo.run.run import Run
from fipo.run.step import STEPS
from fipo.tracking.client import connect

MLFLOW, KUBEFLOW = "https://mlflow.example.com", "https://kubeflow.example.com/pipeline"


@pytest.fixture
def settings(tmp_path, request):
    """A run of its own that tracks at this address."""

    def settings(tracking_uri, *more):
        own = [f"run.directory={tmp_path}", f"run.name={re.sub('[^a-z]+', '-', request.node.name)[:60]}0"]
        return load_config("demo", [*own, f"tracking.uri={tracking_uri}", *more])

    return settings


def test_links_and_placement_change_nothing_that_is_computed(settings):
    others = [f"links.mlflow={MLFLOW}", f"links.pipelines={KUBEFLOW}", "run.recipe=other", "trainjob.nodes=4"]
    plain, linked = (settings("http://mlflow:5000", *more) for more in ([], others))
    assert plain != linked
    assert Run(plain).key == Run(linked).key
    for step in STEPS:
        assert identity_settings(plain, step) == identity_settings(linked, step)


@pytest.mark.parametrize("name", ["mlflow", "pipelines"])
def test_only_pages_of_the_web_are_addresses(settings, name):
    assert getattr(settings("http://mlflow", f"links.{name}=https://host/path/").links, name) == "https://host/path"
    with pytest.raises(ConfigError, match=rf"links\.{name}: must be an address for browsers.*'javascript:alert"):
        settings("http://mlflow", f"links.{name}=javascript:alert(1)")


def test_every_page_of_mlflow_is_given_at_its_public_address(server, settings, capfd):
    config = settings(server.uri, f"links.mlflow={MLFLOW}/", f"links.pipelines={KUBEFLOW}")
    parent_page = Run(config).link("0a1b-2c3d")
    workspace = Run(config).step("prepare")
    with workspace.attempt() as attempt:
        pass
    result, client = workspace.result(), connect(server.uri)
    step = client.get_run(result.mlflow_run_id)
    parent = client.get_run(attempt.tracker.parent_run_id)
    assert result.mlflow_url == f"{MLFLOW}/#/experiments/{step.info.experiment_id}/runs/{step.info.run_id}"
    assert parent_page == f"{MLFLOW}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
    assert result.pipeline_run == "0a1b-2c3d"
    Run(config).step("prepare").run()
    printed = capfd.readouterr().out
    assert f"[prepare] MLflow: {result.mlflow_url}\n" in printed
    assert server.uri not in printed
    for run in (parent, step):
        assert run.data.tags["fipo.pipeline_run"] == "0a1b-2c3d"
        assert f"[0a1b-2c3d]({KUBEFLOW}/#/runs/details/0a1b-2c3d)" in run.data.tags["mlflow.note.content"]


def test_without_a_public_address_the_servers_own_is_given(server, settings):
    config = settings(server.uri)
    assert Run(config).link("0a1b").startswith(f"{server.uri}/#/experiments/")
    with Run(config).step("prepare").attempt() as attempt:
        assert attempt.tracker.url.startswith(f"{server.uri}/#/experiments/")


def test_what_people_wrote_about_a_run_stays(server, settings):
    config, client = settings(server.uri, f"links.pipelines={KUBEFLOW}"), connect(server.uri)
    run_id = Run(config).link("first").rpartition("/")[2]
    written = client.get_run(run_id).data.tags["mlflow.note.content"]
    client.set_tag(run_id, "mlflow.note.content", f"{written}\n\nOur best so far.")
    Run(config).link("second")
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note == f"Kubeflow run [second]({KUBEFLOW}/#/runs/details/second)\n\nOur best so far."


@pytest.mark.parametrize("mode", ["refuse", "hang", "error"])
def test_mlflow_that_is_away_fails_no_run(proxy, settings, mode, caplog):
    proxy.mode = mode
    assert Run(settings(proxy.uri)).link("0a1b") == ""
    assert "MLflow cannot be told that" in caplog.text


def test_runs_of_one_name_are_told_apart(tracking_uri, settings):
    variants = [settings(tracking_uri, f"train.prompts_per_step={size}") for size in (32, 64)]
    for config in variants:
        Run(config).link("0a1b")
    client = connect(tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = [client.search_runs(experiments, f"tags.`fipo.run_key` = '{Run(config).key}'") for config in variants]
    names = {run.info.run_name for found in runs for run in found}
    assert len(names) == 2
    assert all(name.startswith(f"{config.run.name}-fipo-s0-") for name in names)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("shop", "shop-dapo-s3-abcd"),
        ("search-s3-dapo", "search-s3-dapo-abcd"),
        ("dapo-s30", "dapo-s30-s3-abcd"),
        ("adapo", "adapo-dapo-s3-abcd"),
    ],
)
def test_a_legend_says_nothing_twice(name, title):
    config = load_config("demo", [f"run.name={name}", "run.seed=3", "algorithm.loss=dapo"])
    assert Run(config).title("train", "abcdef") == title


def test_a_page_moves_with_its_server(settings):
    """A result from before the address was set, or of a step that is reused."""
    inside = settings("http://mlflow:5000")
    workspace = Run(inside).step("prepare")
    page = "http://mlflow:5000/#/experiments/1/runs/ab12"
    workspace.commit(StepResult("prepare", workspace.fingerprint, 1.0, mlflow_url=page))
    assert workspace.result().mlflow_url == page
    outside = settings("http://mlflow:5000", f"links.mlflow={MLFLOW}")
    assert Run(outside).step("prepare").result().mlflow_url == f"{MLFLOW}/#/experiments/1/runs/ab12"


def test_a_run_is_closed_by_kubeflows_id_where_its_settings_were_completed_later(server, settings):
    """`configure` adds the folder of a registered model to them; the exit handler knows only what was asked for."""
    asked, completed = settings(server.uri), settings(server.uri, "sft.steps=1")
    assert Run(asked).key != Run(completed).key
    Run(completed).link("77aa")
    with Run(completed).step("prepare").attempt() as attempt:
        pass
    parent, step = attempt.tracker.parent_run_id, attempt.tracker.run_id
    Run(asked).close("COMPLETE", "another")
    client = connect(server.uri)
    assert client.get_run(parent).info.status == "RUNNING"
    Run(asked).close("FAILED", "77aa")
    assert client.get_run(parent).info.status == "FAILED"
    assert client.get_run(step).info.status == "FINISHED", "the step has closed itself"
