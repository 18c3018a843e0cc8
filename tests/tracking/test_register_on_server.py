"""A tracking server refuses model versions that point into local folders; registration works with it all the same."""

import time
from types import SimpleNamespace

import mlflow
import pytest

from fipo.config import Architecture, Model
from fipo.errors import RegistryError
from fipo.models import load_model, load_tokenizer, save_model
from fipo.release import registry
from fipo.release.registry import champion, patiently, register
from fipo.storage import open_store, upload_directory
from fipo.tracking import Tracker

SETTINGS = Model(
    architecture=Architecture(
        vocabulary=tuple("0123+="), hidden_size=16, intermediate_size=16, layers=1, attention_heads=2,
        key_value_heads=1, max_position_embeddings=32,
    )
)  # fmt: skip


@pytest.fixture
def mlflow_uri(server):
    yield server.uri
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as it was


def test_a_local_folder_is_registered_with_a_server(mlflow_uri, tmp_path):
    model = load_model(SETTINGS, seed=0)
    save_model(model, load_tokenizer(SETTINGS), tmp_path / "model")
    store = open_store((tmp_path / "objects").as_uri())
    manifest = upload_directory(store, tmp_path / "model", "model")
    options = {"experiment": "register", "run_name": "r", "run_key": "r", "journal": tmp_path / "journal.jsonl"}
    with Tracker.open(mlflow_uri, **options) as tracker:
        for _ in range(2):
            registered = register(
                mlflow_uri, name="local", model_uri=f"{store.uri}/model", sha256=manifest.sha256,
                run_id=tracker.run_id, provenance={}, metrics={}, promote=True,
            )  # fmt: skip
    assert (registered.version, registered.uri) == ("1", f"{store.uri}/model")
    assert champion(mlflow_uri, "local") == registered
    mlflow.set_tracking_uri(mlflow_uri)
    loaded = mlflow.transformers.load_model("models:/local@champion", return_type="components")["model"]
    assert all(loaded.state_dict()[name].equal(value) for name, value in model.state_dict().items())


def comes_back(proxy, monkeypatch):
    """When it is waited for."""
    clock = SimpleNamespace(strftime=time.strftime, gmtime=time.gmtime)
    clock.sleep = lambda _: setattr(proxy, "mode", "pass")
    monkeypatch.setattr(registry, "time", clock)


@pytest.mark.parametrize("mode", ["refuse", "error", "cut"])
def test_a_server_that_is_away_is_waited_for(proxy, monkeypatch, mode):
    proxy.mode = mode
    with pytest.raises(RegistryError):
        champion(proxy.uri, "away")
    comes_back(proxy, monkeypatch)
    assert patiently(champion, proxy.uri, "away") is None


def test_a_server_that_stays_away_is_given_up(proxy, monkeypatch):
    proxy.mode = "refuse"
    monkeypatch.setattr(registry, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(registry.Unavailable, match="look up away"):
        patiently(champion, proxy.uri, "away")


def test_a_version_whose_answer_was_lost_is_not_made_twice(proxy, monkeypatch, tmp_path, server):
    folder = tmp_path / "model"
    save_model(load_model(SETTINGS, seed=1), load_tokenizer(SETTINGS), folder)
    store = open_store((tmp_path / "objects").as_uri())
    sha256 = upload_directory(store, folder, "model").sha256
    create = mlflow.MlflowClient.create_model_version

    def answer_is_lost(client, *args, **kwargs):
        create(mlflow.MlflowClient(server.uri, server.uri), *args, **kwargs)
        proxy.mode = "refuse"
        return create(client, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", answer_is_lost)
    comes_back(proxy, monkeypatch)
    made = patiently(
        register, proxy.uri, name="once", model_uri=f"{store.uri}/model", sha256=sha256, run_id="", provenance={},
        metrics={}, promote=True,
    )  # fmt: skip
    assert made.version == "1"
    assert len(mlflow.MlflowClient(server.uri, server.uri).search_model_versions("name = 'once'")) == 1


def test_two_first_registrations_of_a_name(server):
    client = mlflow.MlflowClient(server.uri, server.uri)
    client.create_registered_model("both")
    registry._create_name(client, "both")
