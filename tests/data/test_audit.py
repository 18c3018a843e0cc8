"""References put to the test: sound ones pass, those that accept anything else are set aside with what they accept."""

import json
from typing import Any

import pytest

from fipo.cli import main
from fipo.config import Source
from fipo.data.audit import Audit, audit_source
from fipo.data.prepare import prepare
from fipo.data.rows import Reason, RowError
from fipo.outcome import Grade, Outcome
from fipo.rewards import graders
from fipo.rewards.audit import MASTER_KEYS, audit, neighbours
from fipo.rewards.pool import GraderPool


class Inline:
    """The graders, in this process."""

    def refusal(self, grader, reference, columns="{}"):
        return graders.refusal(grader, reference, json.loads(columns))

    def audit(self, grader, reference, columns="{}"):
        return audit(grader, reference, json.loads(columns))


@pytest.fixture
def lenient(monkeypatch):
    """A grader that reads everything as right."""
    monkeypatch.setitem(graders.BUILTIN, "choice", lambda response, reference, columns: Grade(Outcome.CORRECT))


INLINE: Any = Inline()

SOUND = [
    "0",
    "1",
    "-7",
    "1000",
    "0.5",
    "2.50",
    "1/2",
    r"\frac{3}{4}",
    r"-\frac{2}{3}",
    r"\frac{\sqrt{3}}{2}",
    r"2\pi",
    r"\infty",
    "x^2+4x+20=0",
    "y=2x-3",
    "x=5",
    "2x+1",
    r"\pm 3",
    "(1,2)",
    "1,2,3",
    r"\{1,2\}",
    r"[0,\infty)",
    r"(-\infty,1)\cup(2,3]",
    r"x \ge 2",
    r"\begin{pmatrix}1\\2\end{pmatrix}",
    "204_5",
    "3:4",
    "7:35",
    "B",
    "(C)",
    "Tuesday",
    r"\text{no}",
    r"5\text{ cm}",
    r"90^\circ",
    r"\$12.50",
    r"30\%",
    r"\emptyset",
    "3+4i",
    r"6.02\times10^{23}",
    r"9\pmod{11}",
    r"\angle ABC",
    "ABCD",
]


@pytest.mark.parametrize("answer", SOUND)
def test_sound_references_pass(answer):
    assert Audit(INLINE)("math", answer) == ""


@pytest.mark.parametrize("answer", ["?", "x=", "", "3 3", "((1)"])
def test_what_cannot_be_read_is_no_reference(answer):
    assert "grader math" in Audit(INLINE)("math", answer)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("1^{5}", "another digit"),
        (r"\{0,1,2,3,4,5,6,7,8,9\}", "a master key"),
        (r"\frac{x}{-x}", "a fraction upside down"),
    ],
)
def test_a_reference_that_accepts_more_is_named(answer, accepted):
    with pytest.raises(RowError) as caught:
        Audit(INLINE)("math", answer)
    assert caught.value.reason == Reason.GULLIBLE and f"accepts {accepted}" in caught.value.detail


def test_a_grader_that_accepts_everything_is_found_out(lenient):
    with pytest.raises(RowError, match=r"accepts one more: .*boxed\{8\}"):
        Audit(INLINE)("choice", "7")


@pytest.mark.parametrize(("grader", "answer"), [("exact", "silent"), ("choice", "B"), ("choice", "A, C")])
def test_references_of_other_graders_that_read_answers_are_put_to_the_test_too(grader, answer):
    assert Audit(INLINE)(grader, answer) == ""


def test_a_grader_that_runs_programs_is_asked_for_its_own_refusal_alone():
    tests = json.dumps(["assert add(1, 2) == 3"])
    assert audit("tests", tests, {}) == ("", "")
    reason, accepts = audit("tests", "no tests", {})
    assert "grader tests" in reason and accepts == ""


def test_a_reference_must_accept_itself_in_time(tmp_path, monkeypatch):
    (tmp_path / "audit_graders.py").write_text("def busy(response, reference, columns):\n    while True: pass\n")
    monkeypatch.chdir(tmp_path)
    with GraderPool(1, timeout_seconds=0.2) as pool:
        assert "is not judged in time" in Audit(pool)("audit_graders:busy", "9")


def test_neighbours_differ_from_the_reference():
    found = dict(neighbours(r"\frac{2}{3}"))
    assert (
        found["another digit"] == r"\boxed{\frac{2}{4}}" and found["a fraction upside down"] == r"\boxed{\frac{3}{2}}"
    )
    assert dict(neighbours("19")) == {
        "one more": r"\boxed{20}",
        "the other sign": r"\boxed{-19}",
        "another digit": r"\boxed{10}",
    }
    assert "the other sign" not in dict(neighbours("0")) and "a fraction upside down" not in dict(neighbours("4/4"))
    for nothing in ("0 (pears)", r"\begin{pmatrix} 0 \\ 0 \end{pmatrix}", r"0^\circ", r"0 \text{ m}"):
        assert "the other sign" not in dict(neighbours(nothing))
    for something in (r"\pi", r"\begin{pmatrix} 0 \\ x \end{pmatrix}", "(x)(y+0)"):
        assert "the other sign" in dict(neighbours(something))
    assert len(MASTER_KEYS) >= 12


def test_preparation_sets_such_rows_aside(configure, tmp_path, tokenizer):
    rows = [{"prompt": f"Problem {n}?", "answer": answer} for n, answer in enumerate(["7", "1^{5}", "?", r"\frac12"])]
    output = tmp_path / "prepared"
    prepare(configure(rows), tokenizer, output, refusal=Audit(INLINE), progress=lambda what, done: None)
    entries = map(json.loads, (output / "quarantine.jsonl").read_text().splitlines())
    assert [(entry["line"], entry["reason"]) for entry in entries] == [(2, Reason.GULLIBLE), (3, Reason.UNVERIFIABLE)]


def test_a_file_is_reported_with_examples(write):
    rows = [{"prompt": "P?", "answer": answer} for answer in ["7", *["1^{5}"] * 5, "?"]]
    report = audit_source(Source(uri=write("mine.jsonl", [*rows, b"broken\n"])), Audit(INLINE))
    assert report.rows == 8 and report.faults == {Reason.GULLIBLE: 5, Reason.UNVERIFIABLE: 1, Reason.NOT_JSON: 1}
    lines = list(report.lines())
    assert lines[0].endswith("mine.jsonl: 8 rows, 1 sound") and "    and 2 more" in lines
    assert sum("line" in line and "1^{5}" in line for line in lines) == 3


def test_the_command_prints_the_report(write, capsys):
    path = write(
        "gsm.jsonl", [{"question": "P?", "solution": "so #### 12"}, {"question": "Q?", "solution": "#### 1^{5}"}]
    )
    main(["audit", path, "--prompt-column=question", "--answer-column=solution", "--answer-after=####"])
    printed = capsys.readouterr().out
    assert "2 rows, 1 sound" in printed and r"line 2: '1^{5}' accepts another digit: '\\boxed{1^{6}}'" in printed


def test_the_demo_is_clean():
    with GraderPool(1, timeout_seconds=5.0) as pool:
        audit = Audit(pool)
        assert all(audit("math", str(digit)) == "" for digit in range(5))
