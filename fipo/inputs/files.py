"""Which files of a folder, a model or a module count: those that their readers read."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from fipo.errors import ConfigError

_WEIGHTS = (".safetensors", ".safetensors.index.json")
_UNREAD = (".md", ".bin", ".bin.index.json", ".pt", ".pth", ".h5", ".msgpack")
"""In a model's folder: prose, pickles (`fipo.models` loads safetensors only) and what a trainer leaves."""


def files_under(folder: Path) -> dict[str, Path]:
    """Files by relative name, as `datasets` finds them: nothing hidden, no `__pycache__`, no links to folders."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for path in (Path(place) / name for name in names):
            if path.is_file() and (not path.name.startswith(".") or path.name == ".huggingface.yaml"):
                found[path.relative_to(folder).as_posix()] = path
    return found


def model_files(folder: Path, *, weights: bool) -> dict[str, Path]:
    """Files by relative name that `transformers` may read of a saved model, or, without weights, for its tokenizer."""
    unread = _UNREAD if weights else _UNREAD + _WEIGHTS
    paths = [*folder.iterdir(), *folder.glob("additional_chat_templates/*.jinja")]
    return {
        path.relative_to(folder).as_posix(): path
        for path in paths
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith(unread)
    }


def module_files(module: str) -> dict[str, Path]:
    """Sources by relative name that make up a module: its whole top-level package, and what lies beside that and is
    imported from there; of what is installed, the package alone. Nothing is run: data files, and imports by computed
    names, are not seen.

    Raises:
        ConfigError: there is no such module.
    """
    found: dict[str, Path] = {}
    names = [module.partition(".")[0]]
    for name in names:  # grows
        for root in _roots(name):
            inside = files_under(root) if root.is_dir() else {"": root}
            sources = {file: path for file, path in inside.items() if not file or file.endswith(".py")}
            found |= {(Path(root.name) / file).as_posix(): path for file, path in sources.items()}
            if not _is_installed(root):
                imported = {one for path in sources.values() for one in _imports(path)}
                names += sorted(one for one in imported if one not in (*names, "fipo") and _lies_in(root.parent, one))
    return found


def _roots(name: str) -> list[Path]:
    """The folders or the file of a top-level module; the workers look into the working directory first."""
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(name, [str(Path.cwd()), *sys.path]) or importlib.util.find_spec(name)
    if spec is None:
        raise ConfigError(f"there is no module {name!r} in {Path.cwd()} or among what is installed (PYTHONPATH counts)")
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []  # what is built into Python has no file


def _is_installed(root: Path) -> bool:
    """Whether what lies beside it is other people's."""
    return root.parent == Path(sysconfig.get_path("stdlib")) or root.parent.name in ("site-packages", "dist-packages")


def _lies_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _imports(path: Path) -> Iterator[str]:
    """Top-level names that a source imports; none if it is no valid source, which importing it will say."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
