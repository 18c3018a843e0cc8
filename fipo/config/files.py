"""YAML as settings are written in it, and paths that are relative to the file that names them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """What the text holds.

    Raises:
        ValueError: it is no YAML, or a key stands twice in one mapping; the message is one line.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # a date that is none is a ValueError
        raise ValueError(" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    """Of two settings of one name YAML takes the last, which nobody means."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base, where every key stands once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def locate(tree: dict[str, Any], folder: Path) -> None:
    """Make the paths of data, benchmarks and the model in a recipe of this folder absolute."""
    data, model = tree.get("data"), tree.get("model")
    if isinstance(data, dict):
        for source in _sources(data):
            locate_source(source, folder)
        if isinstance(names := data.get("benchmarks"), list):
            data["benchmarks"] = [_beside(name, folder) for name in names]
    if isinstance(model, dict) and isinstance(name := model.get("name_or_path"), str):
        path = _located(name, folder)
        if name and (name.startswith((".", "~")) or Path(path).is_dir()):  # else it is a model of the hub
            model["name_or_path"] = path


def locate_source(source: Any, folder: Path) -> None:
    """Make the path of a source's rows absolute; addresses stay as they are."""
    uri = source.get("uri") if isinstance(source, dict) else None
    if isinstance(uri, str) and uri and ":" not in uri.partition("/")[0]:
        source["uri"] = _located(uri, folder)


def _sources(data: dict[str, Any]) -> Iterator[Any]:
    for name in ("train", "sft"):
        if isinstance(data.get(name), list):
            yield from data[name]
    if isinstance(data.get("benchmarks"), dict):
        yield from data["benchmarks"].values()


def _beside(name: Any, folder: Path) -> Any:
    """The benchmark's file, but for the name of a shipped one."""
    is_shipped = (files("fipo") / "benchmarks" / f"{name}.yaml").is_file()
    return name if is_shipped or not isinstance(name, str) else _located(name, folder)


def _located(path: str, folder: Path) -> str:
    """Without `..`, which is for the reader of the recipe and not of messages."""
    return os.path.normpath(folder / _expanded(path))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user: whoever opens it says that there is no such file
        return Path(path)
