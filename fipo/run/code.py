"""What computes: the digest of the package's sources, and the versions of what a result depends on besides."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import fipo

PACKAGES = ("fipo", "torch", "transformers", "deepspeed", "mlflow", "kfp")


@cache
def code_digest() -> str:
    """SHA-256 (hex) over the package's Python sources, by path."""
    root = Path(fipo.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """Of Python and of what a result depends on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
