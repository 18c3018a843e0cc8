"""`python -m components.readme` writes each component's README.md from its docstring, signature and metadata.yaml."""

from importlib import import_module
from pathlib import Path

import docstring_parser
import yaml
from kfp.dsl.base_component import BaseComponent

ROOT = Path(__file__).parent


def names() -> list[str]:
    """Folders that hold a component."""
    return sorted(path.parent.name for path in ROOT.glob("*/component.py"))


def load(name: str) -> BaseComponent:
    """The component of a folder."""
    return getattr(import_module(f"components.{name}.component"), name)


def render(name: str) -> str:
    """The README of a component."""
    component = load(name)
    docstring = docstring_parser.parse(component.python_func.__doc__)
    help_ = {parameter.arg_name: _line(parameter.description) for parameter in docstring.params}
    returns = _line(docstring.returns.description) if docstring.returns else ""
    metadata = yaml.safe_load((ROOT / name / "metadata.yaml").read_text(encoding="utf-8"))
    spec = component.component_spec
    arguments = ", ".join(f"{argument}=..." for argument in spec.inputs or {})
    return "\n".join(
        [
            f"# {name}",
            "",
            "<!-- Written by `python -m components.readme`; edit the docstring in component.py instead. -->",
            "",
            docstring.short_description or "",
            "",
            docstring.long_description or "",
            "",
            *_table("Inputs", {key: (value.type, help_[key]) for key, value in (spec.inputs or {}).items()}),
            *_table(
                "Outputs", {key: (value.type, help_.get(key, returns)) for key, value in (spec.outputs or {}).items()}
            ),
            "## Use",
            "",
            "```python",
            f"from components.{name}.component import {name}",
            "",
            f"task = {name}({arguments})",
            "```",
            "",
            f"Stability: {metadata['stability']}. Tags: {', '.join(metadata['tags'])}.",
            "",
        ]
    )


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(title: str, rows: dict[str, tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = [
        f"| `{name}` | {kind.removeprefix('system.').split('@')[0]} | {text} |" for name, (kind, text) in rows.items()
    ]
    return [f"## {title}", "", "| name | type | meaning |", "|---|---|---|", *lines, ""]


if __name__ == "__main__":
    for folder in names():
        (ROOT / folder / "README.md").write_text(render(folder), encoding="utf-8")
