"""The report where people open it: in Kubeflow's panel, 580 pixels wide, and in a window of its own."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from fipo.report.data import Comparison, ReportData
from fipo.report.html import build_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = """
<script>
  const sticking = [];
  for (const card of document.querySelectorAll('.card')) {
    const edge = card.getBoundingClientRect().right - parseFloat(getComputedStyle(card).paddingRight);
    const range = document.createRange();
    for (const part of card.querySelectorAll('*')) {
      if (part.closest('.figure')) continue;
      range.selectNodeContents(part);
      if (range.getBoundingClientRect().right > edge + 0.5) sticking.push(part.textContent.trim());
    }
  }
  const wide = document.documentElement.scrollWidth - innerWidth;
  document.body.innerHTML = '<pre>' + JSON.stringify({width: innerWidth, wide, sticking}) + '</pre>';
</script>
</body>
"""


@pytest.fixture(scope="module")
def pages(data):
    """The report, and that of the same run with answers as long as the paper's."""

    def longer(result):
        return replace(
            result,
            problems=tuple(
                replace(problem, responses=tuple(replace(one, tokens=871 * one.tokens) for one in problem.responses))
                for problem in result.problems
            ),
        )

    first = data.benchmarks[0]
    long = replace(data, benchmarks=(Comparison(longer(first.baseline), longer(first.candidate)),))
    return {"short": build_report(data), "long": build_report(long)}


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [580, 1200])
@pytest.mark.parametrize("size", ["short", "long"])
def test_nothing_leaves_its_card(pages, size, width, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(pages[size].replace("</body>", MEASURE))
    assert CHROMIUM
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", f"--window-size={width},1500", page.as_uri()]
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120).stdout
    (measured,) = re.findall(r"<pre>(.*)</pre>", shown)
    assert json.loads(measured) == {"width": width, "wide": 0, "sticking": []}


def test_a_large_number_holds_no_words(pages):
    """27 pixels high, a card of 220 has room for about twelve characters; what stands before the number may wrap."""
    for page in pages.values():
        values = re.findall(r'<div class="tile-value[^>]*>.*?<span>(.*?)</span></div>', page)
        assert len(values) == 4
        assert all(len(value) <= len("not promoted") for value in values)


def test_the_recipe_is_named_only_where_it_is_known(data, pages):
    assert "<b>demo</b> · recipe demo · loss fipo" in pages["short"]
    bare = ReportData(run="fast", recipe="", loss="fipo", benchmarks=data.benchmarks)
    assert "<b>fast</b> · loss fipo" in build_report(bare)
