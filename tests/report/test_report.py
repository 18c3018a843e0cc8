import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from fipo.errors import DataError
from fipo.evaluation.estimators import Difference, paired_bootstrap
from fipo.figures import to_png, to_svg
from fipo.report.benchmark_figures import comparison_figure
from fipo.report.data import Comparison, ReportData, TokenInfluence
from fipo.report.html import build_report
from fipo.report.terminal import comparison_table, terminal_table
from fipo.report.tokens import SHOWN_TOKENS, coloured
from fipo.report.training_figures import hero
from fipo.report.wording import headline, mood
from fipo.tracking.metric_names import check

HOSTILE = '</title><script>alert("x")</script><img src=x onerror=y> $\\frac{ &amp;'


class Page(HTMLParser):
    """The elements of a page, its text, and the attributes that fetch or run something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.titles: list[str] = []
        self.text: list[str] = []
        self.external: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "title":
                self.titles.append(value)
            if name.startswith("on") or (name in ("src", "href", "xlink:href") and not value.startswith("#")):
                self.external.append(f"{tag} {name}={value}")

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def html(data) -> str:
    return build_report(data)


def test_headline_says_the_result(data, html):
    before, after = (result.scores() for result in (data.benchmarks[0].baseline, data.benchmarks[0].candidate))
    (sentence,) = re.findall(r"<h1>(.*?)</h1>", html)
    assert sentence == (
        f"FIPO raised accuracy on running-sums from\xa0{100 * before.avg_at_k.value:.1f}% to\xa0"
        f"{100 * after.avg_at_k.value:.1f}%; the mean response went from {before.mean_response_tokens:.1f} to "
        f"{after.mean_response_tokens:.1f} tokens."
    )


def test_headline_does_not_boast_of_nothing(data):
    same = Comparison(data.benchmarks[0].baseline, data.benchmarks[0].baseline)
    worse = Comparison(data.benchmarks[0].candidate, data.benchmarks[0].baseline)
    assert "left accuracy on running-sums about where it was" in headline(replace(data, benchmarks=(same,)))
    assert "lowered accuracy on running-sums" in headline(replace(data, benchmarks=(worse,)))


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (Difference(0.1, 0.05, 0.15, p_value=0.001), "better"),
        (Difference(-0.1, -0.15, -0.05, p_value=0.001), "worse"),
        (Difference(0.1, -0.05, 0.25, p_value=0.2), ""),
        (Difference(0.02, 0.004, 0.03, p_value=0.07), ""),  # few problems differ: the interval alone is too sure
    ],
)
def test_a_change_has_a_colour_only_where_interval_and_p_value_agree(difference, expected):
    assert mood(difference) == expected


def test_report_stands_alone(html):
    page = Page(html)
    assert page.external == ["a href=http://localhost:5000/#/experiments/1/runs/ab12"]
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    assert "@import" not in html and "url(http" not in html


def test_report_has_every_figure_with_ids_of_its_own(html):
    figures = html.count("<svg role")
    assert figures == 3 + 2 + 3 + 2 + 3 + 2 + 1, "a figure for each panel: they stack where the page is narrow"
    ids = re.findall(r'<clipPath id="(\w+)"', html)
    assert len(ids) == len(set(ids)) >= figures


def test_report_is_the_same_for_the_same_run(data, html):
    assert build_report(data) == html


def test_every_token_shows_its_numbers(data, html):
    notes = [title for title in Page(html).titles if title.startswith("token ")]
    assert len(notes) == len(data.tokens.tokens)
    assert notes[0] == "token 0: f = 1.162, log ratio +0.0120, advantage +0.94"


def test_hostile_text_is_only_text(data):
    tokens = TokenInfluence(1, HOSTILE, (HOSTILE,), (1.1,), (0.0,), 1.0)
    benchmark = Comparison(*(replace(data.benchmarks[0].baseline, benchmark=HOSTILE) for _ in range(2)))
    hostile = replace(
        data,
        run=HOSTILE,
        recipe=HOSTILE,
        benchmarks=(benchmark,),
        tokens=tokens,
        gate=replace(data.gate, reason=HOSTILE),
        model=replace(data.model, uri=HOSTILE),
        seconds={HOSTILE: 1.0},
        facts={HOSTILE: HOSTILE},
        links={"run": 'javascript:alert("x")', HOSTILE: 'https://host/"onclick="x'},
    )
    page = Page(build_report(hostile))
    assert not {"script", "img"} & set(page.tags)
    assert page.external == ['a href=https://host/"onclick="x']
    assert any(HOSTILE in text for text in page.text)


def test_parts_that_a_run_does_not_have_are_left_out(data):
    bare = ReportData(run="r", recipe="dapo", loss="dapo", benchmarks=data.benchmarks)
    html = build_report(bare)
    assert html.count("<svg role") == 4  # lengths and pass@k come from the evaluation alone
    assert "influence" not in html and "To repeat" not in html and "gate" not in html


def test_a_loss_without_influence_weights_keeps_the_other_figures(data):
    html = build_report(replace(data, loss="dapo", tokens=None))
    assert html.count("<svg role") == 3 + 2 + 2 + 3 + 1
    assert "Influence" not in html


def test_a_resumed_run_draws_the_same_curves(data):
    # Metrics come in parts, the machine's between them, and steps 7 to 10 were logged before by an attempt that died.
    wrong = [(step, {name: 2 * value for name, value in metrics.items()}) for step, metrics in data.history[6:10]]
    names = set(data.history[0][1])
    halves = [{name for name in names if len(name) % 2 == parity} for parity in (0, 1)]
    parts = [
        (step, {name: value for name, value in metrics.items() if name in half or (name not in names and not index)})
        for step, metrics in [*data.history[:6], *wrong, *data.history[6:]]
        for index, half in enumerate(halves)
    ]
    machine = [(1000 + step, {"system/cpu_percent": 50.0}) for step in range(3)]
    resumed = replace(data, history=[*parts[:20], *machine, *parts[20:]])
    assert build_report(resumed) == build_report(data)


def test_every_metric_of_the_figures_is_defined(data):
    for _, metrics in data.history:
        for name in metrics:
            check(name)


def test_models_that_answered_different_problems_are_not_compared(data):
    first = data.benchmarks[0]
    shorter = replace(first.candidate, problems=first.candidate.problems[1:])
    with pytest.raises(DataError, match="running-sums: the two models answered different problems"):
        Comparison(first.baseline, shorter)


def test_colours_diverge_from_one():
    response = coloured(TokenInfluence(1, "", ("a", "b", "c\n"), (1.2, 1.0, 0.9), (0.0, 0.0, 0.0), 1.0))
    up, neutral, down = response.head
    assert (response.low, response.high) == pytest.approx((0.8, 1.2))
    assert up.colour == "rgba(234, 88, 12, 0.720)"
    assert neutral.colour.endswith("0.000)")
    assert down.colour == "rgba(37, 99, 235, 0.360)"
    assert (down.text, down.breaks) == ("c⏎", True)


def test_a_long_response_shows_its_ends():
    count = SHOWN_TOKENS + 500
    texts = tuple(f"t{index}" for index in range(count))
    response = coloured(TokenInfluence(1, "", texts, (1.0,) * count, (0.0,) * count, 1.0))
    assert response.left_out == 500
    assert [response.head[0].text, response.head[-1].text] == ["t0", "t449"]
    assert [response.tail[0].text, response.tail[-1].text] == ["t950", "t1099"]


def test_models_that_answered_unequally_often_are_not_compared(data):
    first = data.benchmarks[0]
    problems = tuple(replace(problem, responses=problem.responses[:4]) for problem in first.candidate.problems)
    with pytest.raises(DataError, match="answered 8 and 4 times; evaluate both with the same"):
        Comparison(first.baseline, replace(first.candidate, problems=problems))


def test_terminal_table_fits_eighty_columns(data):
    lines = printed(terminal_table(data))
    after = data.benchmarks[0].candidate.scores()
    row = next(line for line in lines if line.startswith("avg@8"))
    assert f"{100 * after.avg_at_k.value:.1f}% [{100 * after.avg_at_k.low:.1f}, " in row
    assert "+50." in row  # the row was not broken
    assert next(line for line in lines if line.startswith("total")).endswith("2 min 43 s")


def test_comparison_of_runs_is_against_the_first(data):
    before, after = data.benchmarks[0].baseline, data.benchmarks[0].candidate
    lines = printed(comparison_table({"dapo": before, "again": before, "fipo": after}))
    scores = [line for line in lines if re.match(r"(avg@8 +)?(dapo|again|fipo) .*\[", line)][:3]
    expected = paired_bootstrap(before.by_problem("avg_at_k"), after.by_problem("avg_at_k"))
    assert "+0.0 [0.0, 0.0]" in scores[1] and scores[1].endswith("1.000")
    assert f"{100 * expected.value:+.1f} [{100 * expected.low:.1f}, {100 * expected.high:.1f}]" in scores[2]
    assert scores[2].endswith("< 0.001")


def test_comparison_figure_has_every_run_and_score(data):
    before, after = data.benchmarks[0].baseline, data.benchmarks[0].candidate
    svg = to_svg(comparison_figure({"dapo": before, "<fipo>": after}), "comparison")
    text = "".join(Page(svg).text)
    assert all(word in text for word in ("dapo", "<fipo>", "avg@8", "cons@8", "pass@8", "response tokens"))


def test_one_run_alone_is_not_compared(data):
    with pytest.raises(DataError, match="at least two runs; got fipo"):
        comparison_table({"fipo": data.benchmarks[0].candidate})


def test_wide_picture_names_both_ends(data):
    before, after = (result.scores() for result in (data.benchmarks[0].baseline, data.benchmarks[0].candidate))
    figure = hero(data.benchmarks[0], data.history)
    text = "".join(Page(to_svg(figure, "hero")).text)
    assert f"{100 * before.avg_at_k.value:.1f}%" in text and f"{100 * after.avg_at_k.value:.1f}%" in text
    assert f"{after.mean_response_tokens:.1f}" in text
    assert to_png(figure)[:4] == b"\x89PNG"


def printed(table) -> list[str]:
    console = Console(width=80, record=True, color_system=None)
    console.print(table)
    return [line.strip() for line in console.export_text().splitlines()]
