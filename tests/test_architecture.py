"""Imports point downward, and each heavy dependency has one adapter."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = [
    ["fipo_kfp.pipelines"],
    ["fipo_kfp.components"],
    ["fipo.cli"],
    ["fipo.commands"],
    ["fipo.study", "fipo.doctor"],
    ["fipo.training", "fipo.check", "fipo.init", "fipo.inspect", "fipo.trl"],
    ["fipo.rollout", "fipo.rewards", "fipo.data", "fipo.evaluation", "fipo.distributed", "fipo.launch", "fipo.report",
     "fipo.release", "fipo.planning", "fipo.inputs", "fipo.run", "fipo.environments"],
    ["fipo.algorithm", "fipo.tracking", "fipo.storage", "fipo.models"],
    ["fipo.batch"],
    ["fipo.config", "fipo.algorithm.options", "fipo.errors", "fipo.figures", "fipo.files", "fipo.findings",
     "fipo.outcome", "fipo.records", "fipo.redaction", "fipo.uris", "fipo.waits"],
]  # fmt: skip
"""From top to bottom; a module imports its own room and what stands below."""

ALLOWED_SIDEWAYS = {
    # A plan packs rows as training does, and cuts prompts into parts as an engine does.
    ("fipo.planning", "fipo.distributed"),
    ("fipo.planning", "fipo.rollout"),
    # Evaluation drives an engine, and the gate judges what came of it;
    # a run's report shows evaluations and is read from its workspace.
    ("fipo.evaluation", "fipo.rollout"),
    ("fipo.report", "fipo.evaluation"),
    ("fipo.report", "fipo.run"),
    # It shows which rows preparation has set aside.
    ("fipo.report", "fipo.data"),
    # What the gate decided, and what the registry makes of the run's model.
    ("fipo.report", "fipo.release"),
    # The gate judges evaluations; a model is asked as its data were, and served by processes or pods.
    ("fipo.release", "fipo.evaluation"),
    ("fipo.release", "fipo.data"),
    ("fipo.release", "fipo.launch"),
    ("fipo.release", "fipo.rollout"),
    # What a step reads is resolved by those who read it; a step's identity is made of it.
    ("fipo.inputs", "fipo.data"),
    ("fipo.inputs", "fipo.rewards"),
    ("fipo.run", "fipo.inputs"),
    # The table of steps names what does their work; that works on what the run gives it.
    ("fipo.data", "fipo.run"),
    ("fipo.release", "fipo.run"),
    # A step starts its job; `verify` asks the registry which version it was.
    ("fipo.run", "fipo.launch"),
    ("fipo.run", "fipo.release"),
    # The verifier says which reference answers it can read, an environment which rows.
    ("fipo.data", "fipo.rewards"),
    ("fipo.data", "fipo.environments"),
    # A response of several turns is answered by its environment in between, whose tools run in the graders' sandbox.
    ("fipo.rollout", "fipo.environments"),
    ("fipo.rollout", "fipo.rewards"),
    ("fipo.environments", "fipo.rewards"),
    ("fipo.config", "fipo.errors"),
    # Addresses are refused where they are written.
    ("fipo.config", "fipo.uris"),
    ("fipo.config", "fipo.redaction"),
    # The loss's options are a section of the settings as they are.
    ("fipo.config", "fipo.algorithm.options"),
    ("fipo.algorithm.options", "fipo.errors"),
}

ADAPTERS = {
    "deepspeed": {"fipo.distributed"},
    "vllm": {"fipo.rollout"},
    "peft": {"fipo.models"},
    "boto3": {"fipo.storage"},
    "botocore": {"fipo.storage"},
    "mlflow": {"fipo.tracking", "fipo.release"},
    "kubernetes": {"fipo.launch", "fipo_kfp.pipelines"},
    "kubeflow": {"fipo.launch", "fipo_kfp.pipelines"},
    "trl": {"fipo.trl"},
    "wandb": {"fipo.tracking"},
    "kfp": {"fipo_kfp.components", "fipo_kfp.pipelines"},
    "datasets": {"fipo.data"},
    "huggingface_hub": {"fipo.data", "fipo.inputs"},
}


def imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    for package in ("fipo", "fipo_kfp/components", "fipo_kfp/pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "tests" not in path.parts:
                yield path, ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(name):
    rooms = [room for layer in LAYERS for room in layer if name == room or name.startswith(f"{room}.")]
    return max(rooms, key=len, default=None)


def level_of(room):
    return next(level for level, layer in enumerate(LAYERS) if room in layer)


@pytest.mark.parametrize(
    ("path", "module"), list(modules()), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_imports_point_downward(path, module):
    room = room_of(module)
    if room is None:
        assert module == "fipo", f"{module} has no place in LAYERS"
        return
    for imported in imports(path):
        target = room_of(imported)
        if target is None or target == room or (room, target) in ALLOWED_SIDEWAYS:
            continue
        assert level_of(target) > level_of(room), f"{module} imports {imported}, which stands beside or above it"


@pytest.mark.parametrize(
    ("path", "module"), list(modules()), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_heavy_dependencies_have_one_adapter(path, module):
    for imported in imports(path):
        package = imported.split(".")[0]
        if package in ADAPTERS:
            assert room_of(module) in ADAPTERS[package], f"{module} imports {package}"


def test_the_algorithm_knows_no_settings():
    for path in (ROOT / "fipo" / "algorithm").rglob("*.py"):
        assert not any(name.startswith("fipo.config") for name in imports(path)), path


def test_components_and_pipelines_have_one_name():
    """Under another they would be other modules, which no wheel holds."""
    for folder in ("fipo", "components", "pipelines", "tests", "benchmarks", "experiments", "k8s"):
        for path in (ROOT / folder).rglob("*.py"):
            wrong = {name for name in imports(path) if name.split(".")[0] in {"components", "pipelines"}}
            assert not wrong, f"{path}: import {wrong} from fipo_kfp"
