"""Characters that mean something in URIs: used as written, or refused by name; nothing is written elsewhere."""

import json

import pytest

from fipo.config import load_config
from fipo.data.sources import local_path
from fipo.errors import ConfigError, DataError, StorageError
from fipo.storage import open_store
from fipo.uris import bucket_and_key, local_file


@pytest.mark.parametrize("key", ["group#7", "group?v=3", "group%23", "a b", "ä/ö"])
def test_keys_of_s3_are_as_written(key):
    assert bucket_and_key(f"s3://bkt/{key}") == ("bkt", key)


@pytest.mark.parametrize("uri", ["s3://b#1/x", "s3://b?x=1", "s3://", "s4://b/x", "s3://b%20/x"])
def test_what_is_no_bucket_is_refused(uri):
    with pytest.raises(ValueError, match=r"expected s3://bucket/prefix|cannot be a bucket's name"):
        bucket_and_key(uri)


@pytest.mark.parametrize("uri", ["s3://bkt//x", "s3://bkt/x//y", "s3://bkt/x//", "s3://bkt//", "s3://bkt//rows.jsonl"])
def test_an_empty_part_of_a_key_is_no_part_left_out(uri):
    with pytest.raises(StorageError, match="two slashes in a row are another prefix"):
        open_store(uri)
    with pytest.raises(ConfigError, match=r"data\.train\.0\.uri.*two slashes in a row"):
        load_config("demo", [f"data.train=[{{uri: {json.dumps(uri)}}}]"])
    assert bucket_and_key("s3://bkt/x/") == ("bkt", "x/")


@pytest.mark.parametrize("uri", ["file://", "file:///", "file://localhost", "file:///%FF", "file:///a/%C3"])
def test_a_file_uri_of_no_folder_is_refused(uri):
    with pytest.raises(StorageError, match=r"expected file:///folder|its escapes are no UTF-8"):
        open_store(uri)


def test_credentials_are_refused_and_not_repeated():
    with pytest.raises(StorageError, match="an address holds no credentials") as refused:
        open_store("s3://KEY:hidden-word@bkt/x")
    assert "hidden-word" not in str(refused.value)


@pytest.mark.parametrize("name", ["run#7", "run?v=3", "a b", "100%", "%20"])
def test_every_folder_has_a_uri(tmp_path, name):
    folder = tmp_path / name
    assert local_file(folder.as_uri()) == folder
    store = open_store(folder.as_uri())
    store.put("x", b"1")
    assert (folder / "x").read_bytes() == b"1" and open_store(store.uri).get("x") == b"1"


@pytest.mark.parametrize(("uri", "escape"), [("file:///data/run#7", "%23"), ("file:///data/run?7", "%3F")])
def test_a_file_uri_that_would_end_early_is_refused(uri, escape):
    with pytest.raises(StorageError, match=f"write . as {escape}"):
        open_store(uri)
    with pytest.raises(DataError, match=f"write . as {escape}"):
        local_path(uri)


def test_paths_are_no_uris(tmp_path):
    path = tmp_path / "v#1?.jsonl"
    assert local_path(str(path)) == path


@pytest.mark.parametrize("character", "?#")
def test_a_run_directory_that_ends_the_databases_address_is_refused(tmp_path, character):
    directory = json.dumps(f"{tmp_path}/a{character}b")
    with pytest.raises(ConfigError, match=r"run\.directory: must be a path without \? and #"):
        load_config("demo", [f"run.directory={directory}"])


def test_objects_with_such_names_go_to_a_bucket_and_come_back(aws, moto):
    import boto3

    aws(moto)
    boto3.client("s3").create_bucket(Bucket="odd")
    for prefix in ("team#1", "team?x=1", "a%20b", "a b"):
        open_store(f"s3://odd/{prefix}").put("x", prefix.encode())
    listed = boto3.client("s3").list_objects_v2(Bucket="odd")["Contents"]
    assert {one["Key"] for one in listed} >= {"team#1/x", "team?x=1/x", "a%20b/x", "a b/x"}
