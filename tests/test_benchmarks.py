"""The page of all benchmarks, from what they print."""

import importlib

import pytest

from benchmarks.__main__ import NAMES, document


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_explains_itself(name):
    about = str(importlib.import_module(f"benchmarks.{name}").__doc__)
    assert f"python -m benchmarks.{name}" in about


def test_the_page_has_a_row_and_a_section_for_what_has_run():
    result = {
        "ratio": 4746.7,
        "memory_ratio": 0.096,
        "machine": {"cores": 2},
        "versions": {"torch": "2.13.0"},
        "printed": ["a table"],
        "date": "2026-11-24",
        "minutes": 0.2,
    }
    page = document({"future_kl": result, "tracking": result | {"memory_ratio": None}})
    assert "| [`future_kl`](#future_kl) | the paper's own listing | 4,746.70 | 0.10 |" in page
    assert "| [`tracking`](#tracking) | `mlflow.log_metrics` | 4,746.70 |  |" in page
    assert "2026-11-24, 0.2 minutes; cores 2; torch 2.13.0." in page
    assert "```text\na table\n```" in page
    assert "## rewards" not in page
