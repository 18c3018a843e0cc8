"""The loss of reinforcement learning."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, ValidationInfo, field_validator

from fipo.algorithm.options import LossOptions, check_option
from fipo.config.base import Section, attribute_docstrings


class Algorithm(Section, LossOptions):
    """The loss (arXiv 2603.19835, Eqs. 1 to 8): the loss's own options, as the loss takes them."""

    model_config = ConfigDict(allow_inf_nan=True)  # an infinite bound is none; `check_option` refuses what is no number

    @field_validator("*")
    @classmethod
    def _possible(cls, value: Any, info: ValidationInfo) -> Any:
        check_option(str(info.field_name), value)
        return value


for _name, _text in attribute_docstrings(LossOptions).items():
    Algorithm.model_fields[_name].description = _text
