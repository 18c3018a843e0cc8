from pathlib import Path

from kfp import dsl

from fipo_kfp.components.prepare.component import prepare


def test_points_at_the_data_set(common, artifact, page, stored):
    dataset = artifact("dataset", dsl.Dataset)
    prepare.python_func(**common, dataset=dataset, data_summary=page)
    (files,) = stored(dataset).values()
    assert {"train.parquet", "manifest.json"} <= files
    whole, parts = dataset.metadata["dataset"]["sha256"], dataset.metadata["dataset"]["parts"]
    assert parts.keys() == {"problems", "demonstrations"}, "what RL and the warm-up read, each for itself"
    assert len({whole, *parts.values()}) == 3
    text = Path(page.path).read_text()
    assert "**Kept 38 to train on, 16 to validate, 41 demonstrations of 128 rows; 9 removed.**" in text
    assert "reused" in text
