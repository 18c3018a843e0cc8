"""`fipo status` where MLflow is a server that the run's machine reaches, and this one perhaps not."""

import re

import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.run.run import Run

PUBLIC, KUBEFLOW = "https://mlflow.example.com", "https://kubeflow.example.com/pipeline"


@pytest.fixture
def run(proxy, tmp_path, monkeypatch):
    """A run that prepared its data, and whose warm-up crashed; the proxy is MLflow's address inside the cluster."""
    links = [f"links.mlflow={PUBLIC}", f"links.pipelines={KUBEFLOW}"]
    own = [f"run.directory={tmp_path}", f"run.name=r{proxy.server_address[1]}", f"tracking.uri={proxy.uri}"]
    config = load_config("demo", [*own, *links])
    Run(config).link("0a1b")
    workspace = Run(config).step("prepare")
    workspace.of_run.record_settings()
    with workspace.attempt():
        pass
    with pytest.raises(RuntimeError), Run(config).step("sft").attempt():
        raise RuntimeError
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return f"{config.storage_uri}/{config.run.name}"


def said(capsys, *arguments):
    main(["status", *arguments])
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def test_mlflow_says_how_far_the_run_has_come(run, server, proxy, capsys):
    proxy.mode = "refuse"
    printed = said(capsys, run, "--set", f"tracking.uri={server.uri}")
    assert " prepare finished 20" in printed
    assert " sft failed " in printed
    assert " train absent " in printed
    assert re.search(rf"MLflow RUNNING {PUBLIC}/#/experiments/\d+/runs/\w+ ", printed)
    assert f"Kubeflow {KUBEFLOW}/#/runs/details/0a1b " in printed
    assert printed.count(f"MLflow {PUBLIC}/#/experiments/") == 2  # of the two steps


def test_an_address_that_only_the_cluster_knows_is_said_and_the_store_goes_on(run, proxy, capsys):
    proxy.mode = "refuse"
    printed = said(capsys, run, "--set", "links.mlflow=''")
    assert f"{proxy.uri} does not answer" in printed
    assert "To ask MLflow too, name an address that this machine reaches: --set tracking.uri=" in printed
    assert " prepare finished 20" in printed
    assert " sft absent " in printed
    assert f"Kubeflow {KUBEFLOW}/#/runs/details/0a1b " in printed


def test_other_settings_are_not_for_a_run_that_is_read(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["status", "x", "--set", "train.steps=3"])
    assert ended.value.code == 2
    assert "only tracking.uri and links.* may be set" in capsys.readouterr().err
