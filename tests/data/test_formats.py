"""Files as users have them: every fault of a row is a row with its reason, and a broken file says so in a sentence."""

import datetime
import gzip
import json
import random
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fipo.config import Source
from fipo.data import formats
from fipo.data.rows import Reason
from fipo.data.sources import columns_of, read_rows
from fipo.errors import DataError

PROBLEMS = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(5)]
ROWS = list(enumerate(PROBLEMS, 1))
LINES = "".join(json.dumps(row) + "\n" for row in PROBLEMS)


def outcomes(path, **settings):
    """Each row as `(line, record)` or `(line, reason)`."""
    rows = read_rows(Source(uri=str(path), **settings))
    return [(row.line, row.error.reason if row.error else row.content) for row in rows]


def csv(separator=","):
    return "".join(separator.join(cells) + "\r\n" for cells in [("prompt", "answer"), *map(dict.values, PROBLEMS)])


WRITTEN = {
    "rows.jsonl": LINES.encode(),
    "rows.jsonl.gz": gzip.compress(LINES.encode()),
    "no-suffix": gzip.compress(LINES.encode()),
    "one-line.json": json.dumps(PROBLEMS).encode(),
    "after-blanks.json": b"\n \n" + json.dumps(PROBLEMS, indent=1).encode(),
    "indented.json": b"\xef\xbb\xbf" + json.dumps(PROBLEMS, indent=2).encode(),
    "array.json.gz": gzip.compress(json.dumps(PROBLEMS).encode()),
    "rows.csv": csv().encode(),
    "excel.csv": b"\xef\xbb\xbf" + csv(";").encode(),
    "rows.CSV.GZ": gzip.compress(csv().encode()),
    "rows.tsv": csv("\t").encode(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_rows_in_every_form(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(WRITTEN[name])
    found = outcomes(path)
    assert [record for _, record in found] == PROBLEMS
    first = 2 if "csv" in name.lower() or "tsv" in name else 1
    assert [line for line, _ in found] == list(range(first, first + 5))
    assert columns_of(Source(uri=str(path))) == ["prompt", "answer"]


def test_csv_keeps_what_is_written(tmp_path):
    """A reader that tells types makes 0.1 of 0.10 and a date of 1/2."""
    path = tmp_path / "rows.csv"
    path.write_text('prompt,answer\n"two\nlines, and ""quotes""",0.10\na,1/2\nb,007\n')
    assert outcomes(path) == [
        (2, {"prompt": 'two\nlines, and "quotes"', "answer": "0.10"}),
        (4, {"prompt": "a", "answer": "1/2"}),
        (5, {"prompt": "b", "answer": "007"}),
    ]


def test_bad_rows_of_csv_are_set_aside_and_the_others_kept(tmp_path, configure, run):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'prompt,answer\na,1\nb\nc,3,more\n\nd\xe9,4\ne,5\n"never closed,6\n')
    prepared = run(configure([], train=[{"uri": str(path)}]))
    assert prepared.prompts() == ["a", "e"]
    assert prepared.quarantined == [(3, Reason.UNEVEN), (4, Reason.UNEVEN), (6, Reason.NOT_UNICODE), (8, Reason.UNEVEN)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "a", "answer": "1", "prompt": "b"}', Reason.REPEATED_KEY),
        ('{"prompt": "a", "answer": "1", "extra": {"x": 1, "x": 2}}', Reason.REPEATED_KEY),
        ('{"prompt": [{"role": "user", "role": "system", "content": "a"}], "answer": "1"}', Reason.REPEATED_KEY),
        ('{"prompt": "a", "answer": 0.12345678901234567890}', Reason.INEXACT),
        ('{"prompt": "a", "answer": 12345678901234567.5}', Reason.INEXACT),
        ('{"prompt": "a", "answer": 1e999}', Reason.INEXACT),
        ('{"prompt": "a", "answer": NaN}', Reason.NOT_TEXT),
        ('{"prompt": "a", "answer": ' + "[" * 900 + "]" * 900 + "}", None),
    ],
)
def test_what_would_be_changed_is_set_aside(write, configure, run, line, reason):
    prepared = run(configure([line.encode() + b"\n", {"prompt": "good", "answer": "1"}]))
    assert prepared.prompts() == ["good"]
    assert [line for line, _ in prepared.quarantined] == [1]
    assert reason is None or prepared.quarantined == [(1, reason)]


@pytest.mark.parametrize("number", ["0.5", "1e-5", "0.1", "100.0", "12345678901234567890", "-2.50"])
def test_numbers_that_a_float_holds_are_taken(configure, run, number):
    prepared = run(configure([f'{{"prompt": "a", "answer": {number}}}\n'.encode()]))
    assert float(prepared.problems()[0].answer) == float(number)


def test_long_numbers_in_columns_that_nobody_reads_do_not_matter(configure, run):
    line = b'{"prompt": "a", "answer": "1", "loss": 0.12345678901234567890}\n'
    assert run(configure([line])).prompts() == ["a"]


def timestamps(unit, values, zone=None):
    return pa.array(values, pa.int64()).cast(pa.timestamp(unit, zone))


BAD_COLUMNS = {
    "before year 1": timestamps("s", [0, -(10**12), 0]),
    "after year 9999": timestamps("s", [0, 10**12, 0]),
    "nanoseconds": timestamps("ns", [0, 1, 0]),
    "a zone of nowhere": timestamps("us", [0, 1, 2], "Mars/Olympus"),
    "a date": pa.array([0, 10**8, 0], pa.int32()).cast(pa.date32()),
    "a duration": pa.array([0, 2**62, 0], pa.int64()).cast(pa.duration("s")),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_a_value_that_python_has_not_stops_nothing(tmp_path, name):
    path = tmp_path / "rows.parquet"
    table = pa.table({"prompt": ["a", "b", "c"], "answer": ["1", "2", "3"], "made": BAD_COLUMNS[name]})
    pq.write_table(table, path, coerce_timestamps=None)
    assert [record["prompt"] for _, record in outcomes(path)] == ["a", "b", "c"], "nobody reads it"
    read = outcomes(path, columns=["made"])
    assert [line for line, _ in read] == [1, 2, 3]
    assert all(found is Reason.UNREADABLE or isinstance(found, dict) for _, found in read)
    if name == "after year 9999":
        made = datetime.datetime(1970, 1, 1)
        assert read == [
            (1, {"prompt": "a", "answer": "1", "made": made}),
            (2, Reason.UNREADABLE),
            (3, {"prompt": "c", "answer": "3", "made": made}),
        ]


def test_only_named_columns_are_read_of_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    table = pa.table({"prompt": ["a"], "big": ["x"], "reward_model": [{"ground_truth": "1"}], "source": ["here"]})
    pq.write_table(table, path)
    assert outcomes(path) == [(1, {"prompt": "a", "reward_model": {"ground_truth": "1"}, "source": "here"})]
    assert columns_of(Source(uri=str(path))) == ["prompt", "big", "reward_model", "source"]


@pytest.mark.parametrize("kind", ["parquet", "gz", "json"])
def test_damage_is_said_in_one_sentence_wherever_it_is(tmp_path, kind):
    """Cut or flipped anywhere: rows, reasons, or a DataError that names the file; never something else."""
    path, random_bytes = tmp_path / f"rows.{kind}", random.Random(1)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(PROBLEMS * 50), path)
        whole = path.read_bytes()
    else:
        whole = gzip.compress(LINES.encode() * 50) if kind == "gz" else json.dumps(PROBLEMS, indent=1).encode()
    refused = 0
    for place in range(4, len(whole), max(1, len(whole) // 60)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 + random_bytes.randrange(255)
        for content in (whole[:place], bytes(damaged)):
            path.write_bytes(content)
            try:
                outcomes(path)
            except DataError as error:
                refused += 1
                assert str(path) in str(error)
    assert refused > 20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.csv", "prompt,answer\na,1\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        ("rows.jsonl", LINES.encode("utf-16"), "UTF-16"),
        ("rows.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "git lfs pull"),
        ("rows.xlsx", b"PK\x03\x04rest", "spreadsheet"),
        ("rows.jsonl.xz", b"\xfd7zXZ\x00rest", "unxz"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfdrest", "unzstd"),
        ("data-00000-of-00001.arrow", b"\xff\xff\xff\xff\x10", "save_to_disk"),
        ("rows.orc", b"ORC\x11", "an ORC file"),
        ("rows.pkl", b"\x80\x04\x95", "a pickle, which is never opened"),
        ("rows.db", b"SQLite format 3\x00", "SQLite"),
        ("rows.csv", b"prompt,answer,answer\na,1,2\n", "'answer' stands twice"),
        ("rows.json", b'[{"prompt": "a"},', "begins as a JSON array"),
        ("rows.json", b'[{"prompt": "\xff"}]', "must be UTF-8"),
    ],
)
def test_files_of_another_kind_say_what_to_do(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        outcomes(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "held, way",
    [
        ({"name": "coins", "seeds": [1], "examples": [{"prompt": "1 + 1?", "answer": "2"}]}, """'.["examples"][]'"""),
        ({"prompt": "1 + 1?", "answer": "2"}, "'.'"),
    ],
)
def test_an_object_over_several_lines_is_told_with_the_way_out(tmp_path, held, way):
    """As BIG-bench has its tasks; each of its lines is no row."""
    path = tmp_path / "task.json"
    path.write_text(json.dumps(held, indent=2))
    with pytest.raises(DataError, match=re.escape(f"jq -c {way} OLD > NEW")):
        outcomes(path)


def test_a_first_row_that_is_cut_short_is_set_aside_as_any_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "1 + 1?",\n{"prompt": "1 + 2?", "answer": "3"}\n')
    assert outcomes(path) == [(1, Reason.NOT_JSON), (2, {"prompt": "1 + 2?", "answer": "3"})]


def test_parquet_in_gzip_is_told(tmp_path):
    plain, path = tmp_path / "rows.parquet", tmp_path / "rows.parquet.gz"
    pq.write_table(pa.Table.from_pylist(PROBLEMS), plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(DataError, match="unpack it"):
        outcomes(path)


def test_an_array_is_not_read_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_ARRAY_BYTES", 100)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(PROBLEMS))
    with pytest.raises(DataError, match=r"jq -c"):
        outcomes(path)


def test_a_list_as_the_first_row_of_jsonl_is_no_array(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'["a", "b"]\n{LINES}')
    assert outcomes(path) == [(1, Reason.NOT_AN_OBJECT), *((line + 1, record) for line, record in ROWS)]


def test_a_row_of_an_array_that_is_none(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[ {"prompt": "a"}, 3, null, {"prompt": "b", "prompt": "c"}]')
    found = [(1, {"prompt": "a"}), (2, Reason.NOT_AN_OBJECT), (3, Reason.NOT_AN_OBJECT), (4, Reason.REPEATED_KEY)]
    assert outcomes(path) == found


def test_a_value_that_python_has_not_in_a_folder_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    table = pa.table({"prompt": ["a", "b"], "answer": ["1", "2"], "made": timestamps("s", [0, 10**12])})
    pq.write_table(table, tmp_path / "hub" / "train.parquet")
    assert [record["prompt"] for _, record in outcomes(tmp_path / "hub")] == ["a", "b"]
    assert [found is Reason.UNREADABLE for _, found in outcomes(tmp_path / "hub", columns=["made"])] == [False, True]


@pytest.mark.parametrize(
    ("held", "way"),
    [
        ({"version": "1", "rows": PROBLEMS}, """jq -c '.["rows"][]' OLD > NEW"""),
        ({f"id-{n}": row for n, row in enumerate(PROBLEMS)}, "jq -c '.[]' OLD > NEW"),
        ({name: [row[name] for row in PROBLEMS] for name in PROBLEMS[0]}, "pandas.read_json('OLD')"),
        (
            {name: {str(n): row[name] for n, row in enumerate(PROBLEMS)} for name in PROBLEMS[0]},
            "pandas.read_json('OLD')",
        ),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_that_holds_all_rows_is_told_with_the_way_out(tmp_path, held, way, indent):
    (tmp_path / "held.json").write_text(json.dumps(held, indent=indent) + "\n")
    with pytest.raises(DataError, match=re.escape(way)):
        outcomes(tmp_path / "held.json")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "user", "content": "1?"}], "reward_model": {"ground_truth": "1"}},
        {"prompt": "1?", "answer": "1", "tests": [{"input": "1"}, {"input": "2"}]},
        {"prompt": "1?", "answer": "1"},
    ],
)
def test_a_single_row_is_no_object_of_rows(tmp_path, row):
    (tmp_path / "one.jsonl").write_text(json.dumps(row))
    assert outcomes(tmp_path / "one.jsonl") == [(1, row)]


def test_lines_are_counted_with_the_blank_ones_before_them(tmp_path):
    (tmp_path / "late.jsonl").write_text("\n\n" + LINES)
    assert outcomes(tmp_path / "late.jsonl") == [(line + 2, row) for line, row in ROWS]
