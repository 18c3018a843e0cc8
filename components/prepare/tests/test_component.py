from pathlib import Path

from kfp import dsl

from components.prepare.component import prepare


def test_points_at_the_data_set(common, artifact, page, stored):
    dataset = artifact("dataset", dsl.Dataset)
    prepare.python_func(**common, dataset=dataset, data_summary=page)
    (files,) = stored(dataset).values()
    assert {"train.parquet", "manifest.json"} <= files
    text = Path(page.path).read_text()
    assert "**Kept 38 to train on, 16 to validate, 41 demonstrations of 128 rows; 9 removed.**" in text
    assert "reused" in text
