"""What every section is made of: roles, checked types, and the base class."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.fields import FieldInfo


class Role(Enum):
    """What a setting means for the results of the steps that read its section."""

    IDENTITY = "identity"
    """Another value is another result. A setting that says nothing else is this."""
    LENGTH = "length"
    """Another value is another result, but one that continues the work of a shorter one."""
    MEASURING = "measuring"
    """Changes what `evaluate` and `score` measure, and no data and no model."""
    GRADING = "grading"
    """Besides what is measured, changes which problems of a benchmark `prepare` keeps, and no model."""
    PLACEMENT = "placement"
    """How and where the work is done, not what comes of it: may change between a crash and its continuation. Also where
    an input is: what counts is what is in it."""


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


Probability = Annotated[float, Field(ge=0.0, le=1.0)]


Quantity = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?([kMGTPE]|[KMGTPE]i)?)?$")]


TolerationField = Literal["key", "operator", "value", "effect", "tolerationSeconds"]


class Section(BaseModel):
    """Base of every section: immutable, no unknown keys, the docstring under a field is its help.

    A field says its role where it is not `Role.IDENTITY`: `directory: Annotated[Path, Role.PLACEMENT]`.
    """

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    def without(self, *roles: Role) -> dict[str, Any]:
        """What is left, as JSON would hold it, without the settings of these roles at any depth."""
        return {
            name: _without(getattr(self, name), roles)
            for name, field in type(self).model_fields.items()
            if role_of(field) not in roles
        }


def role_of(field: FieldInfo) -> Role:
    """What a setting means for results."""
    return next((entry for entry in field.metadata if isinstance(entry, Role)), Role.IDENTITY)


def _without(value: Any, roles: tuple[Role, ...]) -> Any:
    if isinstance(value, Section):
        return value.without(*roles)
    if isinstance(value, Mapping):
        return {key: _without(entry, roles) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_without(entry, roles) for entry in value]
    return str(value) if isinstance(value, Path) else value


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The docstring under each attribute of a class at the top of its module, by name."""
    [definition] = ast.parse(inspect.getsource(kind)).body
    found = {}
    for attribute, below in pairwise(getattr(definition, "body", [])):
        if (
            isinstance(attribute, ast.AnnAssign)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[ast.unparse(attribute.target)] = inspect.cleandoc(str(below.value.value))
    return found


def require(condition: object, field: str, requirement: str, value: object) -> None:
    """Refuse a setting in the words that `load_config` shows."""
    if not condition:
        raise ValueError(f"{field}: must be {requirement}; got {value}")
