"""A model's folder is somebody else's: what its files say is held against what they are, before anything is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER, GENERATION = "adapter_config.json", "generation_config.json"
_READ = {".json", ".safetensors", ".jinja", ".model", ".txt"}
FLOATS = {"F64", "F32", "F16", "BF16"}
POINTER = b"version https://git-lfs"
"""What a clone without Git LFS has in the place of a large file."""
_LAYERS = re.compile(r"(?:num_|n_)(?:hidden_|decoder_)?layers?")
_MOST_LAYERS = 4096


def check_folder(folder: Path) -> None:
    """Let a folder pass that holds its own files alone, and weights that are as long as they say, of floats.

    A snapshot in the hub's cache is made of links into the `blobs` beside it; these may be.

    Raises:
        ConfigError: a link or a name leads out of it or nowhere, it holds a pipe, an adapter, a generation
            configuration that cannot be read, quantized weights, or a file of weights that is damaged or holds whole
            numbers.
    """
    places = {folder.resolve(), folder.resolve().parents[1] / "blobs"} if len(folder.resolve().parts) > 2 else {folder}
    for path in folder.iterdir():
        if path.is_symlink() and not path.exists() and path.suffix in _READ:
            raise _refusal(f"{path} is a link to nothing; copy the file to its place")
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in places):
            raise _refusal(f"{path} is a link out of the folder; copy the file to its place")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _refusal(f"{path} is a pipe or a device and no file")
    if (adapter := folder / ADAPTER).is_file():
        raise _refusal(
            f"{folder} holds {ADAPTER}, an adapter of {_json(adapter).get('base_model_name_or_path')!r}: name that "
            "model, or one with the adapter merged into its weights (peft's merge_and_unload)"
        )
    if (generation := folder / GENERATION).is_file():
        _json(generation)  # transformers would pass over a damaged one, and with it over the tokens that end a response
    config = _config_of(folder)
    refuse_quantized(str(folder), config.get("quantization_config"))
    for name, count in _numbers(config):  # transformers makes a list of the layers before it looks at anything
        if _LAYERS.fullmatch(name) and count > _MOST_LAYERS:
            raise _refusal(
                f"{folder}: config.json tells of {count:,} layers, of which at most {_MOST_LAYERS:,} are made"
            )
    for path in weight_files(folder):
        whole = [name for name, (kind, _) in _tensors(path).items() if kind not in FLOATS and name.endswith(".weight")]
        if whole:
            raise _refusal(f"{path} must hold weights of {', '.join(sorted(FLOATS))}; {whole[0]} is of another type")


def refuse_quantized(model: str, settings: object) -> None:
    """Weights of a few bits are not what an optimizer can move.

    Raises:
        ConfigError: there is a `quantization_config`.
    """
    if settings:
        method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
        raise _refusal(
            f"the weights of {model} must be {', '.join(sorted(FLOATS))}, and not quantized (quantization_config in "
            f"config.json: {getattr(method, 'value', method)}); name the model that they were quantized from"
        )


def check_layers(config: PreTrainedConfig, folder: Path) -> None:
    """Refuse a configuration of more layers than there are tensors: they are made before the first one is read.

    Raises:
        ConfigError: it is.
    """
    held = sum(len(_tensors(path)) for path in weight_files(folder))
    layers = config.get_text_config().num_hidden_layers
    if held and layers > held:
        raise _refusal(f"{folder}: config.json tells of {layers:,} layers; the files hold {held} tensors")


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that transformers reads: the whole one, else those of the index; with neither, all.

    Raises:
        ConfigError: the index cannot be read, or names one elsewhere or one that is missing.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    index = folder / INDEX
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    tree = _json(index)
    names = tree.get("weight_map")
    if "metadata" not in tree:
        raise _refusal(f'{index} must have "metadata" beside "weight_map", if only {{}}: transformers asks for it')
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise _refusal(f"{index} cannot be read: it has no weight_map of names")
    if outside := sorted(name for name in names.values() if Path(name).name != name):
        raise _refusal(f"{index} names {outside[0]!r}, which is not in the folder")
    files = sorted({folder / name for name in names.values()})
    if missing := [path.name for path in files if not path.is_file()]:
        raise _refusal(f"{folder} must hold a model in safetensors; {missing[0]} is missing")
    return files


def _tensors(path: Path) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each, by the header, which the library holds against the length of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as beginning:
            if beginning.read(len(POINTER)) == POINTER:
                raise _refusal(f"{path} is a pointer of Git LFS and not the weights: fetch them (git lfs pull)")
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        raise _refusal(f"no safetensors model: {path} is damaged, or was not copied to its end: {error}") from error


def _numbers(tree: object) -> Iterator[tuple[str, int]]:
    """The whole numbers in a tree, by the names that they have there."""
    pairs = tree.items() if isinstance(tree, dict) else ((("", one) for one in tree) if isinstance(tree, list) else ())
    for name, value in pairs:
        if isinstance(value, int):
            yield str(name), value
        else:
            yield from _numbers(value)


def _config_of(folder: Path) -> Mapping[str, object]:
    path = folder / "config.json"
    return _json(path) if path.is_file() else {}


def _json(path: Path) -> Mapping[str, object]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _refusal(f"{path} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise _refusal(f"{path} cannot be read: it is no object")
    return tree


def _refusal(message: str) -> ConfigError:
    return ConfigError(f"model.name_or_path: {message}")
