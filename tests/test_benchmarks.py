"""The page of all benchmarks, from what they print; what is measured in turn; figures on other pages."""

import importlib
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from scipy import stats

from benchmarks import pages, pairs
from benchmarks.__main__ import NAMES, document, replaces, shown
from benchmarks.pairs import Comparison, Cost, Load, alternate, median


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


def test_the_page_shows_what_each_door_costs_beside_what_it_cost_before():
    doors = {"finish": {"cpu_seconds": 1.234, "modules": 1835}, "gate, works": {"cpu_seconds": 2.0, "modules": 1938}}
    before = {
        "commit": "d7e1849",
        "doors": {name: {"cpu_seconds": 2 * row["cpu_seconds"]} for name, row in doors.items()},
    }
    measured = {
        "doors": doors,
        "machine": {"cores": 2},
        "versions": {"torch": "2.13.0"},
        "date": "2026-11-26",
        "minutes": 9,
    }
    page = document({"doors": {**measured, "printed": ["the same"]}, "doors_before": before})
    assert "| task | CPU seconds, d7e1849 | CPU seconds | modules |" in page
    assert "| finish | 2.47 | 1.23 | 1,835 |" in page and "| gate, works | 4.00 | 2.00 | 1,938 |" in page
    assert "the same" not in page


def busy(seconds):
    """Spend CPU seconds, and as many more asleep."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    time.sleep(seconds)


def test_both_sides_run_in_turn_and_the_first_pair_is_thrown_away():
    calls = []
    compared = alternate(lambda: calls.append("ours"), lambda: calls.append("theirs"), pairs=5)
    assert calls == ["ours", "theirs", "theirs", "ours"] * 3
    assert len(compared.ours) == len(compared.theirs) == 5
    with pytest.raises(ValueError, match="at least 5; got 4"):
        alternate(lambda: None, lambda: None, pairs=4)


def test_a_slower_side_is_said_to_be_slower_in_cpu_seconds_too():
    compared = alternate(lambda: busy(0.03), lambda: busy(0.01), pairs=5)
    assert compared.cpu_ratio.value == pytest.approx(1 / 3, rel=0.3)
    assert all(each.seconds > each.cpu_seconds + 0.009 for each in compared.theirs), "sleeping costs no CPU"
    many = alternate(lambda: busy(0.01), lambda: busy(0.03), pairs=5, our_calls=3)
    assert many.cpu_ratio.value == pytest.approx(3, rel=0.3), "for one call of theirs three of ours, whose mean counts"


def test_the_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians():
    ours = tuple(Cost(seconds, 1.0) for seconds in (1.0, 2.0, 4.0, 8.0, 2.0))
    theirs = tuple(Cost(seconds, 0.5) for seconds in (3.0, 2.0, 2.0, 8.0, 8.0))
    found = Comparison(ours, theirs).to_json()
    assert (found["ratio"], found["interval"], found["cpu_ratio"], found["pairs"]) == (1.0, [0.5, 4.0], 0.5, 5)


@pytest.mark.parametrize("count", [5, 6, 8, 9, 12, 25])
def test_the_interval_of_a_median_is_that_of_order_statistics(count):
    """Beside scipy's: with n values, the k-th of each end, k the quantile of the binomial."""
    values = [float(value) for value in stats.norm.rvs(size=count, random_state=count)]
    found, ordered = median(values), sorted(values)
    k = max(1, int(stats.binom.ppf(0.025, count, 0.5)))
    assert (found.value, found.low, found.high) == (statistics.median(values), ordered[k - 1], ordered[-k])
    assert found.confidence == pytest.approx(1 - 2 * stats.binom.cdf(k - 1, count, 0.5))
    assert found.confidence >= 0.95 or count == 5, "five pairs give 94 %"


def test_the_work_of_others_marks_a_run(monkeypatch):
    with Load() as load:
        others = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        time.sleep(1.0)
    others.kill()
    others.wait()
    assert load.others_cores is not None and load.others_cores > 0.1, (
        "a share of a core even on a machine that is shared"
    )
    with Load() as own:
        subprocess.run([sys.executable, "-c", "import time; began = time.process_time()\n"
                        "while time.process_time() < began + 0.3: pass"], check=True)  # fmt: skip
    monkeypatch.setattr(own, "others_cores", 0.19)
    assert own.to_json() == {"others_cores": 0.19, "loaded": False}
    monkeypatch.setattr(own, "others_cores", 0.21)
    assert own.to_json()["loaded"]


def test_own_work_is_not_the_others(monkeypatch):
    """Everybody's work is this process's and its children's: a machine with nobody else on it."""
    monkeypatch.setattr(pairs, "_busy_seconds", pairs.cpu_seconds)
    with Load() as load:
        subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
        busy(0.05)
    assert load.others_cores == pytest.approx(0.0, abs=0.01)


def test_a_loaded_run_is_marked_and_does_not_replace_a_quiet_one():
    quiet, loaded = {"others_cores": 0.1, "loaded": False}, {"others_cores": 1.5, "loaded": True}
    result = {"ratio": 2.0, "interval": [1.9, 2.2], "load": loaded}
    assert shown(result) == "2.00 (1.90 to 2.20), under load"
    assert shown(result | {"load": quiet}) == "2.00 (1.90 to 2.20)"
    assert replaces(result, None) and replaces(result, result) and replaces(result | {"load": quiet}, result)
    assert not replaces(result, result | {"load": quiet}) and not replaces(result, {"ratio": 2.1})


@pytest.mark.parametrize("line", pages.LINES, ids=lambda line: f"{line.page}-{line.figures[0]}")
def test_every_page_says_what_was_measured(line):
    results = json.loads(pages.KEPT.read_text())
    page = (pages.ROOT / line.page).read_text()
    assert not list(pages.wrong(line, page, results)), "run: python -m benchmarks.pages"


def test_another_figure_is_found_and_written_over(tmp_path):
    line = pages.Line("page.md", "times faster: #, memory # GiB", ("a/ratio", "a/bytes / 1073741824"))
    results = {"a": {"ratio": 1234.56, "bytes": 1.5 * 2**30}}
    page = "x times faster: 1,300.0, memory 1 GiB y"
    first, second = pages.wrong(line, page, results)
    assert "a/ratio is 1,234.6; the page says 1,300.0" in first and "the page says 1" in second
    assert pages.written(line, page, results) == "x times faster: 1,234.6, memory 2 GiB y"
    assert not list(pages.wrong(line, pages.written(line, page, results), results))
    (gone,) = pages.wrong(replace(line, text="slower: #"), page, results)
    assert "is there 0 times" in gone


def test_the_page_of_benchmarks_is_that_of_the_kept_results():
    assert document(json.loads(pages.KEPT.read_text())) == (pages.ROOT / "docs" / "benchmarks.md").read_text()
