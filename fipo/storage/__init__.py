"""Object storage: `open_store("file:///…" | "s3://bucket/prefix")`, and whole folders with a verified manifest."""

from fipo.storage.claim import claimed, release
from fipo.storage.directory import (
    DirectoryManifest,
    FileDigest,
    check_directory,
    delete_directory,
    distrust_directories,
    download_directory,
    read_manifest,
    upload_directory,
)
from fipo.storage.opening import open_store
from fipo.storage.store import ObjectInfo, ObjectStore, OnBytes

__all__ = [
    "DirectoryManifest",
    "FileDigest",
    "ObjectInfo",
    "ObjectStore",
    "OnBytes",
    "check_directory",
    "claimed",
    "delete_directory",
    "distrust_directories",
    "download_directory",
    "open_store",
    "read_manifest",
    "release",
    "upload_directory",
]
