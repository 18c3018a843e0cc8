from pathlib import Path

import pytest

from fipo.tracking.metric_names import METRICS, check, to_markdown


def test_the_reference_page_is_current():
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == to_markdown(), "run: python -m fipo.tracking > docs/metrics.md"


def test_families_match_one_part_of_a_name():
    assert check("eval/aime-2024/avg_at_k").name == "eval/<benchmark>/avg_at_k"
    assert check("eval/aime-2024/warmup/avg_at_k").name == "eval/<benchmark>/<model>/avg_at_k"
    with pytest.raises(ValueError):
        check("eval/a/b/c/avg_at_k")


def test_names_are_defined_once():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
