"""Kinds of models that once ended in a traceback, and kinds of which a part is text, in the survey of all kinds."""

import pytest

from tests.models.survey import survey


@pytest.mark.parametrize(
    ("kind", "trainer", "engine"),
    [
        ("jetmoe", "packed", "right"),  # records routers of two kinds at once
        ("longcat_flash", "packed", "right"),  # its routers know experts that do nothing
        ("mllama", "padded", "right"),  # its body cannot be asked without its head
        ("blt", "padded", "raises"),  # raises on a row of two sequences
        ("gemma3", "packed", "right"),
        ("qwen3_5", "padded", "refuses"),
        ("roberta", "off", "off"),
    ],
)
def test_what_becomes_of_a_kind(kind, trainer, engine):
    *found, why = survey(kind)
    assert found == [trainer, engine], why
