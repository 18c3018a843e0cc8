"""The shipped recipes are the paper's: each cell of the table in docs/algorithm.md is held against a recipe."""

import re
from functools import reduce
from pathlib import Path

import pytest
import yaml

from fipo.config import load_config

PAGE = Path(__file__).parents[1] / "docs" / "algorithm.md"
HEAD, _, *ROWS = re.findall(r"\| setting \|.*\n(?:\|.*\n)+", PAGE.read_text(encoding="utf-8"))[0].splitlines()
RECIPES = re.findall(r"`([^`]+)`", HEAD)


def cells(row):
    name, *values = (cell.strip() for cell in row.strip("|").split("|"))
    return name.strip("`"), dict(zip(RECIPES, values, strict=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_that_the_paper_gives(recipe):
    settings = yaml.safe_load(load_config(recipe).to_yaml())
    told = {name: values[recipe] for name, values in map(cells, ROWS) if values[recipe]}
    assert len(told) >= 17
    assert {name: str(reduce(lambda tree, key: tree[key], name.split("."), settings)) for name in told} == told


@pytest.mark.parametrize("size", ["7b", "32b"])
def test_the_matched_control_differs_by_the_loss_alone(size):
    fipo, dapo = (
        yaml.safe_load(load_config(name).to_yaml()) for name in (f"paper-{size}", f"baselines/dapo-{size}-at-64")
    )
    for tree in (fipo, dapo):
        del tree["run"]["name"], tree["run"]["recipe"]
    assert fipo["algorithm"].pop("loss") == "fipo" and dapo["algorithm"].pop("loss") == "dapo"
    assert fipo == dapo
