"""Any address at all: taken as it is written or refused, never repeated with its credentials, never another error."""

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.config import load_config
from fipo.errors import ConfigError, FipoError, StorageError
from fipo.storage import open_store
from fipo.storage.store import check_key
from fipo.uris import bucket_and_key, check_address, check_rows, check_server, check_store, check_tracking, local_file

TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"
CHECKS = (check_address, check_rows, check_server, check_store, check_tracking, bucket_and_key, local_file)

words = st.text(string.ascii_letters + string.digits, min_size=8, max_size=24)
"""Long enough to stand nowhere by chance."""
schemes = st.sampled_from(
    ["s3", "file", "hf", "http", "https", "HTTP", "postgresql", "mysql+pymysql", "mssql", "sqlite", "x"]
)
pieces = st.sampled_from(
    [*"/#?%@:&= .", "..", "://", "s3://", "file:///", "http://", "%2F", "%00", "bkt", "é", "\x00", "\n", "\ud800"]
)
anything = st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)


@given(anything)
@settings(max_examples=300)
def test_anything_is_taken_or_refused(text):
    for check in CHECKS:
        with contextlib.suppress(ValueError):
            check(text)


@given(anything)
@settings(max_examples=200)
def test_what_a_bucket_is_given_is_what_was_written(key):
    try:
        assert bucket_and_key(f"s3://bkt/{key}") == ("bkt", key)
    except ValueError:
        is_bare = {".", "..", ""}.isdisjoint(key.removesuffix("/").split("/"))
        assert not key.isprintable() or key != key.rstrip() or not is_bare or "=" in key


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20))
@settings(max_examples=200)
def test_a_folder_is_found_by_its_uri_or_refused(name):
    folder = Path("/data") / name
    if ".." not in folder.parts:
        try:
            assert local_file(folder.as_uri()) == folder
        except ValueError:
            assert not str(folder).isprintable()


@given(
    schemes,
    words,
    words,
    st.sampled_from(
        [
            "{s}://{u}:{p}@host/x",
            "{s}://{p}@host:80",
            "{s}://host/x?password={p}",
            "{s}://u:{p}@a/b?c#d",
            "{s}://host/db?sslmode=on&api_key={p}",
            "{s}://:{p}@host",
            "{s}://{u}:{p}/{p}@host",
        ]
    ),
)
@settings(max_examples=200)
def test_no_address_holds_credentials_and_no_refusal_repeats_them(scheme, user, password, form):
    uri = form.format(s=scheme, u=user, p=password)
    if "/{p}@" in form and scheme in ("s3", "hf", "file", "sqlite"):
        return  # a path with an @ in it
    databases = scheme.partition("+")[0] in ("postgresql", "mysql", "mssql")
    for check in CHECKS:
        if databases and form.startswith("{s}://{p}@"):
            continue  # a user by itself
        with pytest.raises(ValueError) as refused:
            check(uri)
        assert password not in str(refused.value)


@pytest.mark.parametrize(
    "setting",
    [
        "storage.uri=s3://KEY:{}@bkt/x",
        "tracking.uri=http://me:{}@host:5000",
        "tracking.uri=postgresql+psycopg2://me:{}@host/db",
        "tracking.uri=https://host/?token={}",
        "links.mlflow=https://me:{}@host",
        "links.pipelines=https://me:{}@host",
        "rollout.servers=['http://me:{}@host:8000']",
        "model={{name_or_path: 'https://me:{}@host/m'}}",
        "data.train=[{{uri: 's3://KEY:{}@bkt/x.jsonl'}}]",
        "data.train=[{{uri: 'https://me:{}@host/x.jsonl'}}]",
        "data.train=[{{uri: 'hf://me:{}@organisation/name'}}]",
    ],
)
def test_every_setting_that_is_an_address_refuses_them(setting):
    with pytest.raises(ConfigError, match=r"taken from|browser asks|FIPO_ROLLOUT_TOKEN") as refused:
        load_config(TINY, [setting.format("hidden-word")])
    assert "hidden-word" not in str(refused.value)


@given(anything)
@settings(max_examples=200)
def test_no_name_from_a_store_leaves_its_folder(name):
    root = Path("/store")
    try:
        path = root / check_key(name)
    except StorageError:
        return
    assert (
        Path(*path.parts).is_relative_to(root) and ".." not in path.parts and path.relative_to(root).as_posix() == name
    )


@given(anything)
@settings(max_examples=100)
def test_a_store_is_opened_or_refused(text):
    for uri in (text, f"file:///nowhere/{text}"):
        if not uri.startswith("s3:"):  # asks a server
            with contextlib.suppress(FipoError):
                open_store(uri)
