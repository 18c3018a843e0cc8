"""docs/experiments.md and its like say what the kept results say."""

from pathlib import Path

import pytest

from experiments.report import write_report
from experiments.results import stored_results
from experiments.study import FOLDER, load_study

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "document"), [("demo-study", "experiments.md"), ("pilot", "experiments-pilot.md")])
def test_the_page_is_what_the_kept_results_make(name, document, tmp_path):
    study = load_study(name)
    written = write_report(study, stored_results(study, FOLDER / f"{name}.jsonl"), tmp_path / document)
    assert (tmp_path / document).read_text() == (DOCS / document).read_text(), "run `python -m experiments report`"
    for path in written:
        assert (DOCS / path.relative_to(tmp_path)).is_file()
