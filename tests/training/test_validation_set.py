"""A validation set may be empty: of a few rows the hash may hold out none."""

from typing import Any

from fipo.config import load_config
from fipo.training.rl.validation import Validation


def due(prompts: list[Any]) -> list[bool]:
    unused: Any = None
    validation = Validation(prompts, unused, unused, load_config("demo", ["train.evaluate_every=2"]), unused)
    return [validation.due(step, last=step == 3) for step in (1, 2, 3)]


def test_nothing_is_measured_on_nothing():
    assert due(["a problem"]) == [False, True, True]
    assert due([]) == [False, False, False]
