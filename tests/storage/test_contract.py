"""One contract for every store; what a server cannot do is asserted, not skipped."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fipo.errors import ObjectNotFound, StorageError
from fipo.storage import ObjectInfo, open_store


def test_what_is_put_is_read_back(store):
    store.put("a/b.bin", b"\x00\xff" * 3)
    assert store.get("a/b.bin") == b"\x00\xff\x00\xff\x00\xff"
    store.put("a/b.bin", b"")
    assert store.get("a/b.bin") == b""
    assert open_store(store.uri).get("a/b.bin") == b""


def test_a_file_larger_than_a_part_goes_up_and_down_with_progress(store, tmp_path):
    data = bytes(range(256)) * (80 * 1024)  # 20 MiB, two parts
    (tmp_path / "source").write_bytes(data)
    up: list[int] = []
    down: list[int] = []
    store.put("big", tmp_path / "source", up.append)
    store.download("big", tmp_path / "target", down.append)
    assert (tmp_path / "target").read_bytes() == data
    assert sum(up) == sum(down) == len(data)


def test_ranges_are_clipped_like_slices(store):
    store.put("letters", b"abcdef")
    assert [store.get_range("letters", *r) for r in [(1, 3), (4, 9), (6, 1), (9, 1), (2, 0)]] == [
        b"bcd", b"ef", b"", b"", b"",
    ]  # fmt: skip


def test_listing_is_by_string_prefix_in_the_order_of_keys(store):
    for key in ["b", "a/x", "a.txt", "a/y/z", "a-1", "é"]:
        store.put(key, b"12")
    assert list(store.list()) == [ObjectInfo(key, 2) for key in ["a-1", "a.txt", "a/x", "a/y/z", "b", "é"]]
    assert [info.key for info in store.list("a/")] == ["a/x", "a/y/z"]
    assert [info.key for info in store.list("a/y")] == ["a/y/z"]
    assert [info.key for info in store.list("nothing")] == []


def test_listings_have_no_size_limit(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: store.put(f"many/{index:04}", b""), range(1001)))  # S3 lists 1,000 at once
    assert [info.key for info in store.list("many/")] == [f"many/{index:04}" for index in range(1001)]


def test_a_listing_beside_puts_and_deletes_shows_what_stays(store):
    store.put("stays", b"1")

    def come_and_go(index):
        for _ in range(100):
            store.put(f"goes-{index}", b"")
            store.delete(f"goes-{index}")

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(come_and_go, index) for index in range(3)]
        while not all(other.done() for other in others):
            assert ObjectInfo("stays", 1) in list(store.list())
        for other in others:
            other.result()


def test_the_etag_differs_when_the_contents_do(store):
    etags = []
    for data in (b"one", b"two", b"three"):
        store.put("a/key", data)
        info = store.stat("a/key")
        assert (info.key, info.size) == ("a/key", len(data)) and store.stat("a/key") == info
        etags.append(info.etag)
    assert all(etags) and len(set(etags)) == 3


def test_missing_objects(store, tmp_path):
    store.put("there", b"")
    assert store.exists("there") and not store.exists("nowhere")
    store.delete("there")
    store.delete("there")
    assert not store.exists("there")
    for read in [
        lambda: store.get("nowhere"),
        lambda: store.get_range("nowhere", 0, 1),
        lambda: store.download("nowhere", tmp_path / "x"),
        lambda: store.stat("nowhere"),
    ]:
        with pytest.raises(ObjectNotFound, match=f"{store.uri}/nowhere"):
            read()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a//b", "../up", "a/../b", ".", "a\\b", "a\nb", "a/", "x" * 1025])
def test_keys_that_could_leave_the_store_are_refused(store, key):
    for use in [store.get, store.exists, store.stat, store.delete, lambda key: store.put(key, b"")]:
        with pytest.raises(StorageError, match="object key"):
            use(key)


def test_put_if_absent_has_exactly_one_winner(store):
    if not store.conditional_put:  # rclone ignores the condition: then nothing may be claimed
        with pytest.raises(StorageError, match="overwrites in spite of"):
            store.put_if_absent("lock", b"")
        assert list(store.list()) == []
        return
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda index: store.put_if_absent("lock", b"%d" % index), range(8)))
    assert sum(won) == 1
    assert store.get("lock") == b"%d" % won.index(True)
    assert [info.key for info in store.list()] == ["lock"]
