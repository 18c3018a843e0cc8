"""Any file of rows: each row is a problem or has a reason, and a file that cannot be read says so in one sentence."""

import datetime
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.config import Source
from fipo.data.rows import RowError
from fipo.data.schema import Problem
from fipo.data.sources import read_rows
from fipo.data.validation import to_problem
from fipo.errors import DataError

texts = st.text(max_size=8) | st.sampled_from(["1 + 1?", "\ud800", "\x00", "NaN", "1e999", "{", '"', "\r\n"])
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
records = st.fixed_dictionaries({}, optional={"prompt": values, "answer": values, "response": values, "other": values})

TIMES = (
    pa.timestamp("ns", tz="Nowhere/At_All"),
    pa.timestamp("s"),
    pa.date32(),
    pa.date64(),
    pa.duration("s"),
    pa.time64("ns"),
)
unreadable = st.sampled_from([*TIMES, pa.string(), pa.decimal256(76, 0), pa.float16(), pa.large_binary()])


def outcomes(path):
    """A problem or a reason of each row."""
    found: list[Problem | RowError] = []
    for row in read_rows(Source(uri=str(path))):
        try:
            found.append(to_problem(row, Source(uri=str(path)), "x", refusal=lambda *_: "", demonstration=True))
        except RowError as error:
            found.append(error)
    return found


@given(st.lists(records, min_size=1, max_size=6), st.binary(max_size=30), st.booleans())
@settings(max_examples=120)
def test_lines(tmp_path_factory, rows, noise, packed):
    path = tmp_path_factory.getbasetemp() / f"any.jsonl{'.gz' if packed else ''}"
    noise = noise.replace(b"\n", b"")
    content = b"\n".join([*(json.dumps(row).encode() for row in rows), b"!" + noise]) + b"\n"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    found = outcomes(path)
    assert len(found) == len(rows) + 1 and isinstance(found[-1], RowError)
    assert all(isinstance(one, Problem | RowError) for one in found)


@given(
    st.binary(max_size=200),
    st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "csv.gz", "jsonl.gz"]),
    st.sampled_from([b"", b"PAR1", b"\x1f\x8b\x08", b"[{", b"prompt,answer\n", b"\xef\xbb\xbf"]),
)
@settings(max_examples=150)
def test_bytes_of_any_kind(tmp_path_factory, content, kind, beginning):
    path = tmp_path_factory.getbasetemp() / f"bytes.{kind}"
    path.write_bytes(beginning + content)
    try:
        assert all(isinstance(one, Problem | RowError) for one in outcomes(path))
    except DataError as error:
        assert str(path) in str(error)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=8), unreadable, st.booleans())
@settings(max_examples=80)
def test_columns_of_any_type(tmp_path_factory, numbers, kind, is_read):
    """In a column that nobody reads it does not matter what stands there."""
    path = tmp_path_factory.getbasetemp() / "typed.parquet"
    if pa.types.is_temporal(kind):
        width = 31 if kind == pa.date32() else 53
        odd = pa.array([number % 2**width for number in numbers], pa.int32() if width == 31 else pa.int64()).view(kind)
    else:
        odd = pa.array([None] * len(numbers), kind)
    plain = pa.array(["1 + 1?"] * len(numbers))
    columns = {"prompt": plain, "answer": odd if is_read else plain, "response": plain, "other": odd}
    pq.write_table(pa.table(columns), path)
    found = outcomes(path)
    assert len(found) == len(numbers)
    assert is_read or all(isinstance(one, Problem) for one in found)


def test_the_odd_times_are_such_that_python_has_none():
    """Else the test above shows nothing."""
    far = pa.array([2**62], pa.int64()).view(pa.timestamp("s"))
    try:
        far.to_pylist()
    except (ValueError, OverflowError):
        return
    raise AssertionError(f"{datetime.MAXYEAR} is far enough")
