"""Digests of local files: right after every kind of change, and read once."""

import os
import subprocess

import pytest

from fipo.errors import DataError
from fipo.inputs import digests
from fipo.inputs.digests import Digests


@pytest.fixture
def file(tmp_path, age):
    """A file of which a digest is remembered."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    age(path)
    return path


@pytest.fixture
def digest(tmp_path):
    def digest(path):
        with Digests(tmp_path / "cache" / "digests.json") as known:
            return known.of(path).sha256

    return digest


def test_what_is_remembered_is_the_same_as_what_was_read(tmp_path, file):
    with Digests(tmp_path / "digests.json") as known:
        read = known.of(file)
    with Digests(tmp_path / "digests.json") as known:
        assert known.of(file) == read and read.size == len(b"before")


def sha256sum(path):
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_a_large_file_is_read_once(tmp_path, age, digest, bytes_read):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    age(path)
    bytes_read()
    first = digest(path)
    assert 200 << 20 <= bytes_read() < 201 << 20
    assert digest(path) == first
    assert bytes_read() < 1 << 20
    assert first == sha256sum(path)


def edited(path):
    path.write_bytes(b"after!")


def edited_with_its_time_put_back(path):
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"after!")
    os.utime(path, ns=times)


def replaced_with_the_same_size_and_time(path):
    other = path.with_name("other")
    other.write_bytes(b"after!")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def touched(path):
    path.touch()


def moved_behind_a_link(path):
    path.rename(path.with_name("target"))
    path.symlink_to(path.with_name("target"))


def link_to_another(path):
    path.with_name("other").write_bytes(b"after!")
    path.unlink()
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize(
    "change",
    [
        edited,
        edited_with_its_time_put_back,
        replaced_with_the_same_size_and_time,
        touched,
        moved_behind_a_link,
        link_to_another,
    ],
)
def test_after_every_change_the_digest_is_that_of_the_contents(file, digest, change):
    assert digest(file) == digest(file) == sha256sum(file)
    change(file)
    assert digest(file) == sha256sum(file)


def test_what_was_written_just_now_is_not_remembered(tmp_path, digest, bytes_read):
    """The kernel's clock ticks a few hundred times a second: two writes can have one time."""
    path = tmp_path / "fresh"
    path.write_bytes(b"x" * 100_000)
    digest(path)
    bytes_read()
    digest(path)
    assert bytes_read() > 100_000


def changing(monkeypatch, times):
    """Let somebody append to a file each time that it has been read, so often."""
    left, read = [times], digests._sha256

    def changed(path):
        sha256 = read(path)
        if left[0]:
            left[0] -= 1
            with path.open("ab") as file:
                file.write(b"more")
        return sha256

    monkeypatch.setattr(digests, "_sha256", changed)


def test_a_file_that_changes_while_it_is_read_is_read_again(file, digest, monkeypatch):
    changing(monkeypatch, 2)
    assert digest(file) == sha256sum(file)
    assert file.read_bytes() == b"beforemoremore"


def test_a_file_that_changes_all_the_time_is_refused(file, digest, monkeypatch):
    changing(monkeypatch, 10)
    with pytest.raises(
        DataError, match=f"{file} was read 3 times and changed each time: wait until its writer is done"
    ):
        digest(file)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"%s": 3}', '{"%s": []}', '{"%s": [1, 2, 3, 4, 5]}', "[" * 100_000, "\udcff"]
)
def test_a_damaged_memory_counts_as_none_and_is_mended(tmp_path, file, digest, bytes_read, damage):
    digest(file)
    cache = tmp_path / "cache" / "digests.json"
    kept = cache.read_text()
    text = damage.replace("%s", str(file))
    cache.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert digest(file) == sha256sum(file)
    assert cache.read_text() == kept


def test_no_memory_is_no_reason_to_fail(tmp_path, file):
    for cache in (tmp_path, file / "below-a-file"):
        with Digests(cache) as known:
            assert known.of(file).sha256 == sha256sum(file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_processes_side_by_side_remember_for_each_other(tmp_path, file, age):
    cache, other = tmp_path / "digests.json", tmp_path / "other"
    other.write_bytes(b"other")
    age(other)
    with Digests(cache) as one, Digests(cache) as two:
        one.of(file), two.of(other)
    assert str(file) in cache.read_text() and str(other) in cache.read_text()


def test_what_was_read_before_a_failure_is_remembered(tmp_path, file):
    with pytest.raises(FileNotFoundError), Digests(tmp_path / "digests.json") as known:
        known.of(file)
        known.of(tmp_path / "missing")
    assert str(file) in (tmp_path / "digests.json").read_text()


def test_reading_that_takes_long_tells_how_far_it_is(tmp_path, digest, monkeypatch, capsys):
    path = tmp_path / "large"
    path.write_bytes(bytes(2 << 20))
    digest(path)
    assert not capsys.readouterr().out
    monkeypatch.setattr(digests, "REPORT_SECONDS", 0.0)
    digest(path)
    assert capsys.readouterr().out.splitlines() == [
        f"[inputs] reading {path} for its digest: 50%",
        f"[inputs] reading {path} for its digest: 100%",
    ]
