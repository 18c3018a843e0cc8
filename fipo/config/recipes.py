"""Recipes: files of settings, shipped or of one's own, with overrides from the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from fipo.config.base import Section
from fipo.config.files import locate, locate_source, read_yaml
from fipo.config.help import describe_settings
from fipo.config.tree import Config
from fipo.errors import ConfigError
from fipo.redaction import find_secret, redact

AnySection = TypeVar("AnySection", bound=Section)


def load_config(recipe: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe, apply `key.path=value` overrides (values are YAML) and validate.

    Raises:
        ConfigError: the recipe does not exist or is no mapping, an override is malformed, or a setting is refused.
    """
    tree = _read_recipe(recipe)
    if isinstance(run := tree.setdefault("run", {}), dict):
        run.setdefault("recipe", str(recipe) if str(recipe) in recipe_names() else Path(recipe).stem)
    for override in overrides:
        _name_benchmarks(tree)  # for overrides that reach into them
        key, separator, text = override.partition("=")
        if not (separator and key.strip()):
            raise ConfigError(f"--set {override!r}: expected key.path=value, such as train.learning_rate=3e-6")
        try:
            _set(tree, key.strip().split("."), read_yaml(text))
        except ValueError as error:
            raise ConfigError(f"--set {key}: the value {text!r} is not YAML: {error}") from None
    _name_benchmarks(tree)
    _refuse_secrets(tree, str(recipe))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, f"recipe {str(recipe)!r}")) from None


def _refuse_secrets(tree: Any, recipe: str, place: str = "", above: tuple[int, ...] = ()) -> None:
    """Settings are written to files, logged and shown; what opens a door is a variable of the environment."""
    if isinstance(tree, Mapping | list):
        inside = () if id(tree) in above else tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in inside:  # an alias of YAML may hold itself
            _refuse_secrets(value, recipe, f"{place}.{key}".lstrip("."), (*above, id(tree)))
    elif isinstance(tree, str) and (what := find_secret(tree)):
        raise ConfigError(
            f"recipe {recipe!r}: {place}: must hold no secret, as settings are kept, logged and shown; it has {what}. "
            "What needs it takes it from the environment"
        )


def make_section(kind: type[AnySection], where: str, settings: Any) -> AnySection:
    """One section by itself, such as a source that the command line names, or a study.

    Raises:
        ConfigError: a setting is refused; the message begins with `where`.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explain(error, where, tuple(kind.model_fields))) from None


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return _shipped("recipes")


def benchmark_names() -> list[str]:
    """Names of the shipped benchmarks."""
    return _shipped("benchmarks")


def _shipped(folder: str) -> list[str]:
    root = Path(str(files("fipo") / folder))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def _find(kind: str, name: str | Path) -> Path:
    """The shipped file of this name, or the path itself."""
    try:
        shipped = files("fipo") / f"{kind}s" / f"{name}.yaml"
        path = Path(str(shipped)) if shipped.is_file() else Path(name).expanduser()
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError):  # no name of a file: too long, with a null byte, of no such user
        is_file = False
    if not is_file:
        known = _shipped(f"{kind}s")
        guess = _meant(str(name), known)
        raise ConfigError(f"{kind} {str(name)!r}: expected a YAML file or one of {', '.join(known)}{guess}")
    return path


def _read_mapping(kind: str, path: Path) -> dict[str, Any]:
    """What a file holds; paths in it are relative to it."""
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{kind} {path}: must be text in UTF-8; byte {error.start}: {error.reason}") from None
    except ValueError as error:
        raise ConfigError(f"{kind} {path}: not YAML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{kind} {path}: cannot be read: {error.strerror}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{kind} {path}: expected a mapping, found {type(tree).__name__}")
    (locate_source if kind == "benchmark" else locate)(tree, path.absolute().parent)
    return tree


def _name_benchmarks(tree: Mapping[str, Any]) -> None:
    """Replace a list of names or files under `data.benchmarks` by what they hold."""
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("benchmarks"), list):
        paths = [_find("benchmark", str(name)) for name in data["benchmarks"]]
        named = {path.stem: _read_mapping("benchmark", path) for path in paths}
        if len(named) < len(paths):
            raise ConfigError(f"data.benchmarks: names must differ; got {', '.join(path.stem for path in paths)}")
        data["benchmarks"] = named


def _read_recipe(recipe: str | Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = _find("recipe", recipe)
    if str(path) in seen:
        raise ConfigError(f"recipe {str(recipe)!r} extends itself: {' -> '.join((*seen, str(path)))}")
    tree = _read_mapping("recipe", path)
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"recipe {path}: extends: must be the name of one recipe; got {base!r}")
    beside = path.parent / base
    return _merge(_read_recipe(beside if beside.is_file() else base, (*seen, str(path))), tree)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for index, key in enumerate(path[:-1]):
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {'.'.join(path)}: {'.'.join(path[: index + 1])} is a value, not a section")
        tree = child
    tree[path[-1]] = value


def _explain(error: ValidationError, where: str, known: Sequence[str] = ()) -> str:
    """One line for each setting that was refused; `known` are the names where it is not the whole tree."""
    lines, problems = [], error.errors(include_url=False)
    for problem in problems:
        within = len(problem["loc"])
        if problem["type"] == "too_short" and any(
            other["loc"][:within] == problem["loc"] and other is not problem for other in problems
        ):
            continue  # its entries were refused, for reasons that are told
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            own = known if len(problem["loc"]) == 1 else ()
            meant = _meant(str(problem["loc"][0]), own) if known else _meant_setting(problem["loc"])
            message = f"no such setting{meant}"
        got = "" if problem["type"] in ("value_error", "missing") else f"; got {_short(problem['input'])}"
        lines.append(f"{field + ': ' if field else ''}{message}{got}")
    if len(lines) == 1:
        return redact(f"{where}: {lines[0]}")
    return redact("\n  ".join([f"{len(lines)} settings refused in {where}:", *lines]))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _meant_setting(location: Sequence[str | int]) -> str:
    *above, name = map(str, location)
    section = f"{above[0]}." if above else ""
    names = {one.name.removeprefix(section) for one in describe_settings() if one.name.startswith(section)}
    return _meant(name, sorted({part.rpartition(".")[2] if section else part.partition(".")[0] for part in names}))


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""
