from pathlib import Path

from kfp import dsl

from fipo_kfp.components.prepare.component import prepare


def test_points_at_the_data_set(common, artifact, page, stored):
    dataset = artifact("dataset", dsl.Dataset)
    prepare.python_func(**common, dataset=dataset, data_summary=page)
    (files,) = stored(dataset).values()
    assert {"train.parquet", "manifest.json"} <= files
    digests = {key: value for key, value in dataset.metadata.items() if len(value) == 64 and key != "fingerprint"}
    parts = {"dataset.parts.problems", "dataset.parts.demonstrations"}
    assert digests.keys() == {"dataset.sha256", *parts}, "what RL and the warm-up read, each for itself"
    assert len(set(digests.values())) == 3
    text = Path(page.path).read_text()
    assert "**Kept 38 to train on, 16 to validate, 41 demonstrations of 128 rows; 9 removed.**" in text
    assert "reused" in text
