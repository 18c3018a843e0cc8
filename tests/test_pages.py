"""docs/architecture.md and docs/glossary.md name what there is."""

import ast
import re
from pathlib import Path

import pytest

from fipo.tracking.metric_names import check

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
PATH = r"(?:fipo|fipo_kfp|components|pipelines|k8s|tests|docs|benchmarks|experiments)/[\w/.-]*\w/?"


def defined(path):
    """Names in a file, methods and fields as `Class.name`."""
    names = set()

    def look(nodes, prefix):
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{node.name}.")
            if isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    look(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return names


@pytest.mark.parametrize("page", [ARCHITECTURE, GLOSSARY], ids=["architecture", "glossary"])
def test_every_path_exists(page):
    paths = set(re.findall(rf"(?<![\w/.]){PATH}", page))
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [ARCHITECTURE, GLOSSARY], ids=["architecture", "glossary"])
def test_every_name_is_defined_in_its_file(page):
    named = re.findall(rf"({PATH}) › ([A-Za-z_][\w.]*\w)", page)
    assert len(named) > 10
    for path, name in named:
        assert name in defined(ROOT / path), f"{path} › {name}"


def test_the_five_walks_are_drawn():
    walks = re.findall(r"^## (A .+?)\n+```text", ARCHITECTURE, re.MULTILINE)
    assert walks == [
        "A prompt to the loss",
        "A weight to the registry",
        "A metric to MLflow",
        "A setting to its use",
        "A failure to the task",
    ]


def test_every_room_has_its_line():
    described = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE, re.MULTILINE)
    rooms = {path.stem for path in (ROOT / "fipo").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert described == sorted(rooms - {"__init__"})


def test_the_glossary_has_one_word_for_each_concept():
    terms = [term for row in re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY, re.MULTILINE) for term in row.split(", ")]
    assert len(terms) > 40
    assert len(terms) == len({term.lower() for term in terms})


def test_the_glossarys_metrics_exist():
    names = re.findall(r"metric `(\S+)`", GLOSSARY)
    assert names
    for name in names:
        check(name)
