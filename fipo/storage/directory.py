"""Whole folders in an object store: a manifest of SHA-256 digests, written last, is what makes one exist."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fipo.errors import ObjectDamaged, ObjectNotFound, StorageError
from fipo.files import replacing, sha256_of
from fipo.storage.store import ObjectStore, OnBytes, check_key

MANIFEST = "MANIFEST.json"
_PARTIAL = "MANIFEST.partial.json"
_DISTRUSTED = "MANIFEST.distrusted"
"""Where it is, the next upload sends every file, whatever seems to be there."""
_OWN = (MANIFEST, _PARTIAL, _DISTRUSTED)


@dataclass(frozen=True)
class FileDigest:
    """What one file must be."""

    sha256: str
    """Hex digest of the contents."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class DirectoryManifest:
    """The contents of a folder: equal manifests mean equal files."""

    files: Mapping[str, FileDigest]
    """By name relative to the folder, ascending."""

    @property
    def sha256(self) -> str:
        """One hex digest for the folder: of what `sha256sum` prints for its files, in order."""
        listing = "".join(f"{digest.sha256}  {name}\n" for name, digest in self.files.items())
        return hashlib.sha256(listing.encode()).hexdigest()

    def only(self, names: Collection[str]) -> DirectoryManifest:
        """That of these files alone; those that are not there are left out."""
        return DirectoryManifest({name: digest for name, digest in self.files.items() if name in names})

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(digest.size for digest in self.files.values())

    @classmethod
    def of(cls, local: Path) -> DirectoryManifest:
        """Hash every file under `local`; links are followed to files, not to folders."""
        paths = {path.relative_to(local).as_posix(): path for path in local.rglob("*") if path.is_file()}
        return cls({name: _digest(paths[name]) for name in sorted(paths)})


def upload_directory(
    store: ObjectStore, local: Path, prefix: str, progress: OnBytes | None = None
) -> DirectoryManifest:
    """Store every file of `local` under `prefix`, then the manifest.

    Until the manifest is there, `download_directory` sees no folder. Called again after an interruption it sends only
    what is missing or differs, by the manifests that were left and by size, and objects that an earlier version had and
    this one has not are removed.

    Raises:
        StorageError: the folder is missing or empty, or has a file named like the manifest; the store failed.
    """
    manifest = DirectoryManifest.of(local)
    if not manifest.files or not manifest.files.keys().isdisjoint(_OWN):
        raise StorageError(f"upload {local}: expected a folder with files, none of them named {' or '.join(_OWN)}")
    committed = _find(store, _join(prefix, MANIFEST))
    known = {**committed, **_find(store, _join(prefix, _PARTIAL))}
    sizes = {info.key: info.size for info in store.list(_join(prefix, ""))}
    is_trusted = _join(prefix, _DISTRUSTED) not in sizes
    there = {
        name
        for name, digest in manifest.files.items()
        if is_trusted and known.get(name) == digest and sizes.get(_join(prefix, name)) == digest.size
    }
    if committed == manifest.files and there == committed.keys():
        return manifest
    stale = known.keys() - manifest.files.keys()
    partial = {name: digest for name, digest in known.items() if name in there or name in stale}
    store.put(_join(prefix, _PARTIAL), _to_json(partial))
    store.delete(_join(prefix, MANIFEST))
    if not is_trusted:
        store.delete(_join(prefix, _DISTRUSTED))
    for name, digest in manifest.files.items():
        if name in there:
            if progress:
                progress(digest.size)
            continue
        store.put(_join(prefix, name), local / name, progress)
        partial[name] = digest
        store.put(_join(prefix, _PARTIAL), _to_json(partial))
    for name in stale:
        store.delete(_join(prefix, name))
    store.put(_join(prefix, MANIFEST), _to_json(manifest.files))
    store.delete(_join(prefix, _PARTIAL))
    return manifest


def download_directory(
    store: ObjectStore, prefix: str, local: Path, progress: OnBytes | None = None, *, link: bool = False
) -> DirectoryManifest:
    """Bring the files that the manifest under `prefix` names to `local`; those already right stay as they are.

    `link`: nobody will write to them, so that they need not be copies.

    Raises:
        ObjectNotFound: there is no manifest (never uploaded, or not to the end), or one of its objects is missing.
        StorageError: the manifest or an object is not what was uploaded.
    """
    manifest = read_manifest(store, prefix)
    for name, digest in manifest.files.items():
        path = _inside(local, name)
        if path.is_file() and path.stat().st_size == digest.size and _digest(path) == digest:
            if progress:
                progress(digest.size)
            continue
        with replacing(path) as unfinished:
            store.download(_join(prefix, name), unfinished, progress, link=link)
            _verify(f"{store.uri}/{_join(prefix, name)}", _digest(unfinished), digest)
    return manifest


def check_directory(store: ObjectStore, prefix: str) -> DirectoryManifest:
    """Hold every object under `prefix` against the manifest there, and keep none of them.

    Raises:
        ObjectNotFound: there is no manifest, or one of its objects is missing.
        StorageError: the manifest or an object is not what was uploaded.
    """
    manifest = read_manifest(store, prefix)
    for name, digest in manifest.files.items():
        with tempfile.TemporaryDirectory(prefix="fipo-check-") as folder:
            temporary = Path(folder) / "object"
            store.download(_join(prefix, name), temporary)
            _verify(f"{store.uri}/{_join(prefix, name)}", _digest(temporary), digest)
    return manifest


def distrust_directories(store: ObjectStore, prefix: str) -> None:
    """Let the next upload of each folder below `prefix` send every file: an object may be damaged and of its old size.

    Until then they stay as they are.
    """
    keys = [info.key.rpartition("/") for info in store.list(_join(prefix, ""))]
    for folder in {folder for folder, _, name in keys if name in (MANIFEST, _PARTIAL)}:
        store.put(_join(folder, _DISTRUSTED), b"")


def delete_directory(store: ObjectStore, prefix: str) -> None:
    """Remove every object under `prefix`, the manifest first: a folder is there whole or not at all."""
    store.delete(_join(prefix, MANIFEST))
    for info in list(store.list(_join(prefix, ""))):
        store.delete(info.key)


def read_manifest(store: ObjectStore, prefix: str) -> DirectoryManifest:
    """The manifest of the folder under `prefix`, with names that are safe to use.

    Raises:
        ObjectNotFound: there is none.
        StorageError: it is damaged.
    """
    key = _join(prefix, MANIFEST)
    try:
        return DirectoryManifest(_from_json(store.get(key)))
    except ValueError as error:
        raise ObjectDamaged(f"{store.uri}/{key}: damaged or tampered with ({error}); upload the folder anew") from None


def _find(store: ObjectStore, key: str) -> dict[str, FileDigest]:
    """The files that the manifest at `key` names; none if it is missing or damaged: then everything is sent again."""
    try:
        return _from_json(store.get(key))
    except (ObjectNotFound, ValueError):
        return {}


def _to_json(files: Mapping[str, FileDigest]) -> bytes:
    entries = {name: {"sha256": digest.sha256, "size": digest.size} for name, digest in sorted(files.items())}
    digest = DirectoryManifest(dict(sorted(files.items()))).sha256
    return json.dumps({"sha256": digest, "files": entries}, indent=1).encode()


def _from_json(data: bytes) -> dict[str, FileDigest]:
    try:
        tree = json.loads(data)
        expected = tree["sha256"]
        files = {
            check_key(name): FileDigest(str(entry["sha256"]), int(entry["size"]))
            for name, entry in sorted(tree["files"].items())
        }
    except (ValueError, KeyError, TypeError, AttributeError, StorageError) as error:
        raise ValueError(f"not a manifest: {error!r}") from None
    if DirectoryManifest(files).sha256 != expected:
        raise ValueError("its digest is not that of its list of files")
    return files


def _digest(path: Path) -> FileDigest:
    return FileDigest(sha256_of(path), path.stat().st_size)


def _verify(uri: str, actual: FileDigest, expected: FileDigest) -> None:
    if actual.size != expected.size:
        raise ObjectDamaged(
            f"{uri}: {actual.size} bytes instead of {expected.size}: truncated or replaced since upload"
        )
    if actual != expected:
        raise ObjectDamaged(
            f"{uri}: SHA-256 {actual.sha256} instead of {expected.sha256}: damaged or tampered with since upload"
        )


def _inside(local: Path, name: str) -> Path:
    """`local / name`, which no link on the way may lead out of `local`."""
    path = local / name
    if not path.resolve().is_relative_to(local.resolve()):
        raise StorageError(f"download {name!r}: a link leads out of {local}")
    return path


def _join(prefix: str, name: str) -> str:
    prefix = prefix.strip("/")
    return f"{prefix}/{name}" if prefix else name
