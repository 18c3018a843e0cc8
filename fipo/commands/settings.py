"""What can be set: `config`, `settings`, `recipes`."""

from __future__ import annotations

import argparse

from fipo.commands.options import RECIPE, Commands, read_config
from fipo.config import describe_settings, recipe_names


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    config = commands.add_parser("config", parents=[RECIPE], help="print every setting, resolved and checked")
    config.set_defaults(command=_config_command)

    settings = commands.add_parser("settings", help="explain every setting, with its default")
    settings.set_defaults(command=_settings)

    recipes = commands.add_parser("recipes", help="list the shipped recipes")
    recipes.set_defaults(command=_recipes)


def _config_command(options: argparse.Namespace) -> None:
    print(read_config(options).to_yaml(), end="")


def _settings(options: argparse.Namespace) -> None:
    for setting in describe_settings():
        print(f"{setting.name} = {setting.default}  ({setting.role.value})\n    {setting.help}")


def _recipes(options: argparse.Namespace) -> None:
    print("\n".join(recipe_names()))
