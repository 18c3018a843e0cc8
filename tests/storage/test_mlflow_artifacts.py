"""MLflow reaches the same S3 server by the same standard AWS settings as the object store."""

import boto3
import mlflow
import pytest

from fipo.config import Architecture, Model
from fipo.models import load_model, load_tokenizer, save_model
from fipo.release.registry import register
from fipo.storage import open_store, upload_directory
from fipo.tracking import Tracker

SETTINGS = Model(
    architecture=Architecture(
        vocabulary=tuple("0123+="), hidden_size=16, intermediate_size=16, layers=1, attention_heads=2,
        key_value_heads=1, max_position_embeddings=32,
    )
)  # fmt: skip


@pytest.fixture
def bucket(rclone, aws, servers, monkeypatch):
    aws(rclone)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # MLflow's: it keeps the credentials of an earlier test
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")  # MLflow's own client needs it with rclone
    yield servers.make_bucket()
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as it was


def test_artifacts_and_models_in_s3(bucket, tmp_path):
    tracking_uri = f"sqlite:///{tmp_path}/mlflow.db"
    with Tracker.open(
        tracking_uri, experiment="x", run_name="x", run_key="x", journal=tmp_path / "journal.jsonl",
        artifact_root=f"s3://{bucket}/mlflow",
    ) as tracker:  # fmt: skip
        tracker.table([{"a": 1}], "table.json")
        run_id = tracker.run_id
    store = open_store(f"s3://{bucket}")
    assert store.get(f"mlflow/x/{run_id}/artifacts/table.json") == b'{"columns": ["a"], "data": [[1]]}'
    model = load_model(SETTINGS, seed=0)
    save_model(model, load_tokenizer(SETTINGS), tmp_path / "model")
    manifest = upload_directory(store, tmp_path / "model", "model")
    register(
        tracking_uri, name="x", model_uri=f"{store.uri}/model", sha256=manifest.sha256, run_id=run_id,
        provenance={}, metrics={}, promote=True,
    )  # fmt: skip
    mlflow.set_tracking_uri(tracking_uri)
    loaded = mlflow.transformers.load_model("models:/x@champion", return_type="components")["model"]
    assert all(loaded.state_dict()[name].equal(value) for name, value in model.state_dict().items())
