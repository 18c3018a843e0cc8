"""The report where people open it: on a phone, in Kubeflow's panel, 580 pixels wide, and in a window of its own."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace

import pytest

from fipo.report.data import Comparison, Live, ReportData, Said, SameProblem
from fipo.report.html import build_report
from fipo.run.stages import Pace, Stage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = """
<script>
  const sticking = [];
  for (const card of document.querySelectorAll('.card')) {
    const edge = card.getBoundingClientRect().right - parseFloat(getComputedStyle(card).paddingRight);
    const range = document.createRange();
    for (const part of card.querySelectorAll('*')) {
      if (part.closest('svg')) continue;
      range.selectNodeContents(part);
      if (range.getBoundingClientRect().right > edge + 0.5) sticking.push(part.textContent.trim());
    }
  }
  const wide = document.documentElement.scrollWidth - innerWidth;
  parent.postMessage(JSON.stringify({width: innerWidth, wide, sticking}), '*');
</script>
</body>
"""
FRAME = """
<script>addEventListener('message', event => {{ document.body.innerHTML = '<pre>' + event.data + '</pre>' }})</script>
<iframe width="{width}" height="1500" style="border: 0" src="report.html"></iframe>
"""
"""A window may not be as narrow as a phone."""


@pytest.fixture(scope="module")
def pages(data):
    """The report, that of a run with answers as long as the paper's and no new champion, and one while it runs."""

    def longer(result):
        return replace(
            result,
            problems=tuple(
                replace(problem, responses=tuple(replace(one, tokens=871 * one.tokens) for one in problem.responses))
                for problem in result.problems
            ),
        )

    first = data.benchmarks[0]
    refused = replace(data.gate, passed=False)
    long = replace(data, benchmarks=(Comparison(longer(first.baseline), longer(first.candidate)),), gate=refused)
    step = Stage("running", "", "", 0.0)
    live = Live({"prepare": replace(step, state="done"), "train": step, "evaluate": None}, {}, 0.0, 5.0)
    pace = Pace("step 1,301: sampling, round 2", 123_456, 999_999, 1234.5, time.time())
    said = Said("x" * 400, "correct", 20_480)
    same = [SameProblem("0123456789" * 30, "answer" * 20, said, said)]
    lives = replace(data, benchmarks=(), live=replace(live, paces={"": pace}), answers=same, warnings=["y" * 300])
    return {"short": build_report(data), "long": build_report(long), "live": build_report(lives)}


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [360, 580, 1200])
@pytest.mark.parametrize("size", ["short", "long", "live"])
def test_nothing_leaves_its_card(pages, size, width, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(pages[size].replace("</body>", MEASURE))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    assert CHROMIUM
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", "--window-size=1300,1500", "--virtual-time-budget=20000", frame.as_uri()]
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=600).stdout
    (measured,) = re.findall(r"<pre>({.*})</pre>", shown)
    assert json.loads(measured) == {"width": width, "wide": 0, "sticking": []}


def test_a_large_number_holds_no_words(pages):
    """27 pixels high, a card of 220 has room for about twelve characters; what stands before the number may wrap."""
    for page in (pages["short"], pages["long"]):
        values = re.findall(r'<div class="tile-value[^>]*>.*?<span>(.*?)</span></div>', page)
        assert len(values) == 4
        assert all(len(value) <= len("not promoted") for value in values)


def test_the_recipe_is_named_only_where_it_is_known(data, pages):
    assert "<b>demo</b> · recipe demo · loss fipo" in pages["short"]
    bare = ReportData(run="fast", recipe="", loss="fipo", benchmarks=data.benchmarks)
    assert "<b>fast</b> · loss fipo" in build_report(bare)
