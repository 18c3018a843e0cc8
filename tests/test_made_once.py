"""What workers share is made by the first and copied by all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import turn
from tests.made_once import made_once


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """`worker(name)`: where a worker of this name has its files."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")

    def worker(name):
        (tmp_path / name).mkdir()
        return SimpleNamespace(getbasetemp=lambda: tmp_path / name)

    return worker


def test_one_makes_it_and_each_has_its_own(worker):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text(str(len(made)))

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda name: made_once(worker(name), "thing", make), ["gw0", "gw1", "gw2", "gw3"]))
    assert len(made) == 1 and len({*folders, *made}) == 5
    (folders[0] / "file").write_text("changed")
    assert [(folder / "file").read_text() for folder in (*folders[1:], *made)] == ["1"] * 4


def test_what_failed_is_made_anew(worker):
    def fail(folder):
        (folder / "half").touch()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        made_once(worker("gw0"), "thing", fail)
    (made,) = made_once(worker("gw1"), "thing", lambda folder: (folder / "whole").touch()).iterdir()
    assert made.name == "whole", "nothing is left of the half"


def test_the_slow_files_come_first_and_only_one_waits_for_the_pipeline():
    quick, slow, slower, one, more = map(Path, ("quick", "slow", "slower", "one", "more"))
    counted = {quick: 0, slow: 1, slower: 5, one: 2, more: 3}
    pipeline = {one: 2, more: 3}
    found = sorted(counted, key=lambda path: turn(path, counted, pipeline))
    assert found == [more, slower, slow, one, quick]
