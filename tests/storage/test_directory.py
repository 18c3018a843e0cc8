"""Folders in a store, on every store: the manifest is the commit, and nothing is trusted that it does not vouch for."""

import hashlib
import json
import os
import stat

import pytest

from fipo.errors import ObjectDamaged, ObjectNotFound, StorageError
from fipo.storage import distrust_directories, download_directory, open_store, read_manifest, upload_directory
from fipo.storage.directory import DirectoryManifest
from fipo.storage.file import LINKED_BYTES


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "b.bin").write_bytes(b"\x01" * 1000)
    (root / "a.json").write_bytes(b"{}")
    (root / "sub" / "c").write_bytes(b"")
    return root


class Recorder:
    """A store that counts puts and may fail at a key, or after so many puts."""

    def __init__(self, store, fail_at=None, fail_after=None):
        self._store, self._fail_at, self._fail_after, self.put_keys = store, fail_at, fail_after, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, data, progress=None):
        if key == self._fail_at or len(self.put_keys) == self._fail_after:
            raise StorageError("killed")
        self.put_keys.append(key)
        self._store.put(key, data, progress)


def test_a_folder_comes_back_as_it_was(store, folder, tmp_path):
    up: list[int] = []
    down: list[int] = []
    manifest = upload_directory(store, folder, "m", up.append)
    assert download_directory(store, "m", tmp_path / "copy", down.append) == read_manifest(store, "m") == manifest
    assert DirectoryManifest.of(tmp_path / "copy") == manifest
    assert sum(up) == sum(down) == manifest.size == 1002
    listing = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in ["a.json", "b.bin", "sub/c"]
    )
    assert manifest.sha256 == hashlib.sha256(listing.encode()).hexdigest()


def test_the_uri_of_a_folder_opens_it(store, folder, tmp_path):
    manifest = upload_directory(store, folder, "deep/down/m")
    assert download_directory(open_store(f"{store.uri}/deep/down/m"), "", tmp_path / "copy") == manifest


def test_an_interrupted_upload_is_no_folder_and_is_continued(store, folder, tmp_path):
    with pytest.raises(StorageError, match="killed"):
        upload_directory(Recorder(store, fail_at="m/b.bin"), folder, "m")
    with pytest.raises(ObjectNotFound, match=r"m/MANIFEST\.json"):
        download_directory(store, "m", tmp_path / "copy")
    second = Recorder(store)
    upload_directory(second, folder, "m")
    assert "m/a.json" not in second.put_keys and "m/b.bin" in second.put_keys
    assert sorted(info.key for info in store.list()) == ["m/MANIFEST.json", "m/a.json", "m/b.bin", "m/sub/c"]


def test_uploading_again_sends_nothing_and_a_new_version_only_what_differs(store, folder, tmp_path):
    upload_directory(store, folder, "m")
    second = Recorder(store)
    upload_directory(second, folder, "m")
    assert second.put_keys == []
    (folder / "a.json").write_bytes(b"[]")
    (folder / "sub" / "c").unlink()
    third = Recorder(store)
    manifest = upload_directory(third, folder, "m")
    assert "m/b.bin" not in third.put_keys
    assert sorted(info.key for info in store.list()) == ["m/MANIFEST.json", "m/a.json", "m/b.bin"]
    assert download_directory(store, "m", tmp_path / "copy") == manifest


def test_objects_that_are_gone_are_sent_again_whatever_the_manifest_says(store, folder, tmp_path):
    upload_directory(store, folder, "m")
    store.delete("m/b.bin")
    recorder = Recorder(store)
    upload_directory(recorder, folder, "m")
    assert "m/b.bin" in recorder.put_keys and "m/a.json" not in recorder.put_keys
    download_directory(store, "m", tmp_path / "back")
    assert (tmp_path / "back" / "b.bin").read_bytes() == b"\x01" * 1000


@pytest.mark.parametrize("fail_after", [None, 1, 2, 3])
def test_a_damaged_object_of_its_old_size_is_sent_again_where_it_is_distrusted(store, folder, tmp_path, fail_after):
    manifest = upload_directory(store, folder, "run/m")
    store.put("run/m/b.bin", b"\x02" * 1000)
    distrust_directories(store, "run")
    with pytest.raises(ObjectDamaged, match=r"run/m/b\.bin"):  # and until then the folder is what it was
        download_directory(store, "run/m", tmp_path / "copy")
    if fail_after is not None:
        with pytest.raises(StorageError, match="killed"):
            upload_directory(Recorder(store, fail_after=fail_after), folder, "run/m")
    assert upload_directory(store, folder, "run/m") == manifest
    assert download_directory(store, "run/m", tmp_path / "copy") == manifest
    again = Recorder(store)
    upload_directory(again, folder, "run/m")
    assert again.put_keys == [] and len(list(store.list())) == 4


def test_an_interrupted_change_leaves_no_folder_and_forgets_nothing(store, folder):
    upload_directory(store, folder, "m")
    (folder / "a.json").write_bytes(b"[]")
    (folder / "sub" / "c").unlink()
    with pytest.raises(StorageError, match="killed"):
        upload_directory(Recorder(store, fail_at="m/a.json"), folder, "m")
    with pytest.raises(ObjectNotFound):
        read_manifest(store, "m")
    second = Recorder(store)
    upload_directory(second, folder, "m")
    assert "m/b.bin" not in second.put_keys
    assert sorted(info.key for info in store.list()) == ["m/MANIFEST.json", "m/a.json", "m/b.bin"]


def test_going_back_after_an_interrupted_change_sends_the_old_file_again(store, folder):
    manifest = upload_directory(store, folder, "m")
    (folder / "a.json").write_bytes(b"[]")
    interrupted = Recorder(store, fail_after=2)
    with pytest.raises(StorageError, match="killed"):
        upload_directory(interrupted, folder, "m")
    assert interrupted.put_keys == ["m/MANIFEST.partial.json", "m/a.json"]  # sent, and not yet noted
    (folder / "a.json").write_bytes(b"{}")
    assert upload_directory(store, folder, "m") == manifest
    assert store.get("m/a.json") == b"{}"


def test_a_download_keeps_what_is_right_and_mends_the_rest(store, folder, tmp_path):
    upload_directory(store, folder, "m")
    copy = tmp_path / "copy"
    download_directory(store, "m", copy)
    kept = (copy / "b.bin").stat().st_mtime_ns
    (copy / "a.json").write_bytes(b"[]")
    download_directory(store, "m", copy)
    assert (copy / "a.json").read_bytes() == b"{}"
    assert (copy / "b.bin").stat().st_mtime_ns == kept


@pytest.fixture
def linked(folder, tmp_path):
    """A store and a folder with a large object, linked, and a small one."""
    (folder / "weights").write_bytes(b"w" * LINKED_BYTES)
    store, copy = open_store(f"file://{tmp_path}/store"), tmp_path / "copy"
    upload_directory(store, folder, "m")
    download_directory(store, "m", copy, link=True)
    return store, copy


def test_what_is_large_and_only_read_lies_on_disk_once(linked, folder, tmp_path):
    """And a new object of the same key is another file: who reads the old one keeps it."""
    store, copy = linked
    assert (copy / "weights").samefile(tmp_path / "store" / "m" / "weights")
    assert not (copy / "weights").samefile(folder / "weights"), "what is uploaded may be written to later"
    store.put("m/weights", b"other")
    assert (copy / "weights").read_bytes() == b"w" * LINKED_BYTES


def test_who_edits_an_input_does_not_edit_what_is_stored(linked, folder, tmp_path):
    store, copy = linked
    with (copy / "a.json").open("w") as file:  # in place, as some editors do
        file.write("[]")
    assert store.get("m/a.json") == b"{}"
    # A link is no place to write to, for anyone but root; whoever forces it is found out when it is read next.
    if os.geteuid():
        with pytest.raises(PermissionError):
            (copy / "weights").open("r+")
    assert stat.S_IMODE((copy / "weights").stat().st_mode) == 0o444
    (copy / "weights").chmod(0o644)
    with (copy / "weights").open("r+") as file:
        file.write("?")
    with pytest.raises(StorageError, match=r"m/weights: SHA-256 .*damaged or tampered with since upload"):
        download_directory(store, "m", tmp_path / "next", link=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\x01" * 999 + b"\x03", "damaged or tampered"), (b"\x01" * 999, "999 bytes instead of 1000: truncated")],
)
def test_a_flipped_or_missing_byte_is_noticed(store, folder, tmp_path, data, message):
    upload_directory(store, folder, "m")
    store.put("m/b.bin", data)
    with pytest.raises(StorageError, match=f"{store.uri}/m/b.bin: .*{message}"):
        download_directory(store, "m", tmp_path / "copy")
    assert not (tmp_path / "copy" / "b.bin").exists()


def test_a_missing_object_is_noticed(store, folder, tmp_path):
    upload_directory(store, folder, "m")
    store.delete("m/b.bin")
    with pytest.raises(ObjectNotFound, match=r"m/b\.bin"):
        download_directory(store, "m", tmp_path / "copy")


def _forge(store, name):
    digest = {"sha256": hashlib.sha256(b"evil").hexdigest(), "size": 4}
    listing = f"{digest['sha256']}  {name}\n"
    tree = {"sha256": hashlib.sha256(listing.encode()).hexdigest(), "files": {name: digest}}
    store.put("m/MANIFEST.json", json.dumps(tree).encode())


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside", "a\\b", ""])
def test_names_that_lead_elsewhere_are_refused(store, tmp_path, name):
    _forge(store, name)
    with pytest.raises(StorageError, match="damaged or tampered"):
        download_directory(store, "m", tmp_path / "copy")


def test_links_that_lead_elsewhere_are_refused(store, tmp_path):
    _forge(store, "link/outside")
    store.put("m/link/outside", b"evil")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="a link leads out"):
        download_directory(store, "m", tmp_path / "copy")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": "0", "files": {}}', '{"sha256": "0", "files": {"a": 1}}'])
def test_what_is_no_manifest_is_refused(store, text):
    store.put("m/MANIFEST.json", text.encode())
    with pytest.raises(StorageError, match=r"m/MANIFEST\.json: damaged or tampered"):
        read_manifest(store, "m")


def test_folders_that_cannot_be_told_from_their_manifest_are_refused(store, folder, tmp_path):
    with pytest.raises(StorageError, match="expected a folder with files"):
        upload_directory(store, tmp_path / "nowhere", "m")
    (folder / "MANIFEST.json").write_bytes(b"")
    with pytest.raises(StorageError, match=r"none of them named MANIFEST\.json"):
        upload_directory(store, folder, "m")
