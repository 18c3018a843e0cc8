from pathlib import Path

from kfp import dsl

from components.prepare.component import prepare


def test_points_at_the_data_set(measured, artifact, stored):
    dataset = artifact("dataset", dsl.Dataset)
    prepare.python_func(**measured, dataset=dataset)
    (files,) = stored(dataset).values()
    assert {"train.parquet", "manifest.json"} <= files
    assert measured["metrics"].metadata["data/train"] > 0
    assert "reused" in Path(measured["summary"].path).read_text()
