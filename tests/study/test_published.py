"""docs/demo-study.md and its like say what the kept results say."""

from pathlib import Path

import pytest

from fipo.study.registration import standing
from fipo.study.report import DEFAULT_TEXT, write_report
from fipo.study.results import stored_results
from fipo.study.study import load_study

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("demo-study", "demo-study.md"),
        ("pilot", "demo-study-pilot.md"),
        ("search", "search-study.md"),
        ("search-24", "search-24-study.md"),
    ],
)
def test_the_page_is_what_the_kept_results_make(name, document, tmp_path):
    path = ROOT / "studies" / f"{name}.yaml"
    study, kept = load_study(path), path.with_suffix(".md")
    text = (kept if kept.is_file() else DEFAULT_TEXT).read_text()
    results = stored_results(study, path.with_suffix(".jsonl"))
    written = write_report(study, results, tmp_path / document, text=text, standing=standing(path))
    again = f"run `fipo study report {path} --output docs/{document}`"
    assert (tmp_path / document).read_text() == (DOCS / document).read_text(), again
    for path in written:
        assert (DOCS / path.relative_to(tmp_path)).is_file()
