"""The journal file alone."""

import pytest

from fipo.tracking import read_journal
from fipo.tracking.journal import Journal, last_steps


def point(step, **values):
    return {"kind": "metrics", "time": 1, "step": step, "values": values}


def test_what_a_kill_tore_is_cut_off(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(point(1, a=0.5))
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"kind":"metrics","step":2,"val')
    assert read_journal(path) == [(1, {"a": 0.5})]
    journal = Journal(path)
    journal.append(point(3, a=0.25))
    journal.close()
    assert read_journal(path) == [(1, {"a": 0.5}), (3, {"a": 0.25})]


def test_the_offset_survives_and_never_passes_the_end(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for step in range(3):
        journal.append(point(step, a=0.0))
    (_, first), *_ = journal.unsent()
    journal.sent(first)
    journal.close()
    again = Journal(path)
    assert [record["step"] for record, _ in again.unsent()] == [1, 2]
    assert not again.drained
    again.close()
    (tmp_path / "journal.offset").write_text("1000000")
    assert Journal(path).drained


@pytest.mark.parametrize("note", [b"", b"x", b"\xff", b"-3", b"7"])
def test_a_damaged_note_of_what_was_sent_is_none(tmp_path, note):
    """`7` is in the middle of a record. What is sent twice is in MLflow once."""
    journal = Journal(tmp_path / "journal.jsonl")
    for step in range(3):
        journal.append(point(step, a=0.0))
    journal.close()
    (tmp_path / "journal.offset").write_bytes(note)
    again = Journal(tmp_path / "journal.jsonl")
    assert [record["step"] for record, _ in again.unsent()] == [0, 1, 2]
    again.close()


def test_a_damaged_line_is_lost_and_those_around_it_are_not(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for step in range(3):
        journal.append(point(step, a=float(step)))
    journal.close()
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\xff" * (len(second) - 1) + b"\n" + third)
    assert read_journal(path) == [(0, {"a": 0.0}), (2, {"a": 2.0})]
    assert last_steps(path, None) == {"a": 2}  # type: ignore[arg-type]  # of no run


def test_last_steps_are_counted_for_each_run(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for record in [
        {"kind": "run", "key": "x"},
        point(3, a=0.0),
        point(2, b=0.0),
        {"kind": "run", "key": "y"},
        point(9, a=0.0),
    ]:
        journal.append(record)
    journal.close()
    assert last_steps(journal.path, "x") == {"a": 3, "b": 2}
    assert last_steps(journal.path, "y") == {"a": 9}
