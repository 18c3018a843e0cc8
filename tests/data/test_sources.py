import json

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from fipo.config import Source
from fipo.data import formats
from fipo.data.rows import Reason
from fipo.data.sources import columns_of, read_rows
from fipo.errors import DataError

PROBLEMS = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(5)]


def outcomes(source):
    """Each row as `(line, record)` or `(line, reason)`."""
    return [(row.line, row.error.reason if row.error else row.content) for row in read_rows(source)]


def test_jsonl_with_byte_order_mark_crlf_and_blank_lines(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n  \n{"prompt": "b"}')
    assert outcomes(Source(uri=str(path))) == [(1, {"prompt": "a"}), (4, {"prompt": "b"})]


def test_every_kind_of_broken_line_is_a_row_with_its_reason(tmp_path):
    path = tmp_path / "problems.jsonl"
    lines = [
        b'{"prompt": "a", "answer": ',
        b'{"prompt": "\xff\xfe"}',
        b"[1, 2]",
        b"[" * 100_000,
        b'{"answer": ' + b"9" * 5000 + b"}",
        b"\x00\x01\x02\x03",
        json.dumps({"prompt": "whole"}).encode(),
    ]
    path.write_bytes(b"\n".join(lines))
    assert outcomes(Source(uri=str(path))) == [
        (1, Reason.NOT_JSON),
        (2, Reason.NOT_UTF8),
        (3, Reason.NOT_AN_OBJECT),
        (4, Reason.NOT_JSON),
        (5, Reason.NOT_JSON),
        (6, Reason.NOT_JSON),
        (7, {"prompt": "whole"}),
    ]


def test_a_huge_line_is_skipped_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_LINE_BYTES", 64)
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b'{"prompt": "' + b"x" * 1000 + b'"}\n{"prompt": "b"}\n' + b"y" * 64)
    rows = list(read_rows(Source(uri=str(path))))
    assert [row.line for row in rows] == [1, 2, 3]
    assert [row.error and row.error.reason for row in rows] == [Reason.LINE_TOO_LONG, None, Reason.LINE_TOO_LONG]
    assert rows[0].excerpt().startswith('{"prompt": "xxx')
    assert rows[1].content == {"prompt": "b"}


def test_empty_file_has_no_rows(write):
    assert outcomes(Source(uri=write("empty.jsonl", []))) == []


def test_parquet_is_recognised_by_its_content(tmp_path):
    path = tmp_path / "no-suffix"
    pq.write_table(pa.Table.from_pylist(PROBLEMS), path)
    assert outcomes(Source(uri=str(path))) == list(enumerate(PROBLEMS, 1))


def test_parquet_with_invalid_utf8_loses_that_row_only(tmp_path):
    path = tmp_path / "problems.parquet"
    prompts = pa.array([b"a", b"\xff\xfe", b"c"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": prompts}), path)
    assert outcomes(Source(uri=str(path))) == [(1, {"prompt": "a"}), (2, Reason.NOT_UTF8), (3, {"prompt": "c"})]


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "problems.parquet"
    pq.write_table(pa.Table.from_pylist(PROBLEMS), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"problems\.parquet: damaged parquet file"):
        outcomes(Source(uri=str(path)))


def test_limit_and_file_uri(write, tmp_path):
    write("with space.jsonl", PROBLEMS)
    uri = (tmp_path / "with space.jsonl").as_uri()
    assert "%20" in uri
    assert outcomes(Source(uri=uri, limit=2)) == list(enumerate(PROBLEMS[:2], 1))


@pytest.mark.parametrize("uri", ["/no/such/file.jsonl", "file:///no/such/file.jsonl"])
def test_missing_file_is_named(uri):
    with pytest.raises(DataError, match=r"/no/such/file\.jsonl: cannot be read: No such file"):
        outcomes(Source(uri=uri))


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "htp://host/x.jsonl", "S3://bucket/key", "hf://", "s3://", "file://host/x"]
)
def test_unknown_scheme_is_refused(uri):
    with pytest.raises(ValueError, match=r"expected (a path, )?(file://|s3://|hf://)"):
        Source(uri=uri)


@pytest.mark.parametrize("uri", ["s3://problems", "s3://problems/", "s3://problems/raw/"])
def test_a_bucket_or_a_prefix_of_one_is_no_file(uri):
    with pytest.raises(ValueError, match=rf"'{uri}': expected one file of a bucket, s3://bucket/key"):
        Source(uri=uri)


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="problems")
    yield client
    server.stop()


@pytest.mark.parametrize("name", ["math.jsonl", "math.parquet"])
def test_object_storage(bucket, write, name):
    bucket.upload_file(write(name, PROBLEMS), "problems", f"raw/{name}")
    assert outcomes(Source(uri=f"s3://problems/raw/{name}")) == list(enumerate(PROBLEMS, 1))


def test_an_object_is_brought_here_once_and_again_when_it_changes(bucket, write, monkeypatch):
    from fipo.storage.s3 import S3Store

    brought, download = [], S3Store.download

    def counted(self, key, path, progress=None):
        brought.append(key)
        download(self, key, path, progress)

    monkeypatch.setattr(S3Store, "download", counted)
    source = Source(uri="s3://problems/raw/once.jsonl")
    for rows in (PROBLEMS[:1], PROBLEMS[:2]):
        bucket.upload_file(write("once.jsonl", rows), "problems", "raw/once.jsonl")
        assert columns_of(source) == ["prompt", "answer"]
        assert outcomes(source) == list(enumerate(rows, 1))
    assert brought == ["once.jsonl"] * 2


def test_data_set_folder_in_the_hubs_layout(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for subset, rows in (("algebra", PROBLEMS), ("geometry", PROBLEMS[:1])):
        (tmp_path / "hub" / subset).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / subset / "test-00000-of-00001.parquet")
    configs = "".join(f"- config_name: {s}\n  data_files: {s}/test-*.parquet\n" for s in ("algebra", "geometry"))
    (tmp_path / "hub" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    folder = str(tmp_path / "hub")
    assert outcomes(Source(uri=folder, subset="algebra", split="train")) == list(enumerate(PROBLEMS, 1))
    monkeypatch.chdir(tmp_path.parent)
    assert outcomes(Source(uri=f"hf://{tmp_path.name}/hub", subset="geometry", revision="a" * 40)) == [(1, PROBLEMS[0])]
    with pytest.raises(DataError, match=r"subset 'algebra', split 'no-such-split'\) cannot be loaded"):
        outcomes(Source(uri=folder, subset="algebra", split="no-such-split"))
