"""A tracking server refuses model versions that point into local folders; registration works with it all the same."""

import mlflow
import pytest

from fipo.config import Architecture, Model
from fipo.models import load_model, load_tokenizer, save_model
from fipo.release.registry import champion, register
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
