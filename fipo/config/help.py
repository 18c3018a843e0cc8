"""Every setting with its default, its role and its help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from fipo.config.base import Role, Section, role_of
from fipo.config.tree import Config


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as `fipo settings` explains it."""

    name: str
    """`train.learning_rate`; `data.train[].uri` is one of each entry, `data.benchmarks.NAME.samples` of each name."""
    default: str
    """As JSON, or `required`."""
    role: Role
    help: str


def describe_settings() -> Iterator[Setting]:
    """Every setting, in the order of the tree."""
    yield from _describe(Config, "")


def _describe(section: type[Section], prefix: str) -> Iterator[Setting]:
    for name, field in section.model_fields.items():
        inner, repeated = _section_in(field.annotation)
        if inner and not repeated and not field.is_required() and field.get_default() is not None:
            yield from _describe(inner, f"{prefix}{name}.")
            continue
        if not (inner and section is Config):
            default = "required" if field.is_required() else json.dumps(field.get_default(), default=_as_json)
            help_ = " ".join((field.description or "").split())
            yield Setting(f"{prefix}{name}", default, role_of(field), help_)
        if inner:
            yield from _describe(inner, f"{prefix}{name}{repeated}.")


def _section_in(annotation: Any) -> tuple[type[Section] | None, str]:
    """The section that a field holds, if it does, and how its name goes on: each entry is `[]`, each key `.NAME`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, ""
    repeated = {tuple: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        inner, deeper = _section_in(argument)
        if inner:
            return inner, repeated + deeper
    return None, ""


def _as_json(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Section) else str(value)
