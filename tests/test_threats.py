"""What the pages on security and reliability say holds a threat or a fault off is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEFINED = {
    name: path
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "components").rglob("tests/*.py")]
    for name in re.findall(r"^ *(?:async )?def (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def rows(page):
    """The rows of the page's tables that name a test."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("|") and "`test_" in line]


@pytest.mark.parametrize("page", ["security.md", "reliability.md"])
def test_each_named_test_is_there(page):
    named = {name for line in rows(page) for name in re.findall(r"`(test_\w+)`", line)}
    assert len(named) > 20 and named - set(DEFINED) == set()


def test_each_stands_where_the_page_says():
    pairs = [pair for line in rows("security.md") for pair in re.findall(r"`(test_\w+)` in `([\w/.]+)`", line)]
    wrong = [(name, place) for name, place in pairs if f"def {name}(" not in (ROOT / place).read_text(encoding="utf-8")]
    assert len(pairs) > 20 and wrong == []
