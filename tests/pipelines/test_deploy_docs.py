"""What the pages about clusters tell people to type exists and is accepted."""

import re
import shlex
from pathlib import Path

import pytest

from fipo import cli
from fipo.config import load_config
from fipo_kfp.pipelines.__main__ import _parameters, _parser
from fipo_kfp.pipelines.cron import check_cron
from fipo_kfp.pipelines.package import arguments

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("deploy", "upgrade", "uninstall")
}
TEXT = "\n".join(PAGES.values())
BLOCKS = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in BLOCKS.splitlines() if "python -m pipelines" in line]
OF_FIPO = [line for line in BLOCKS.splitlines() if line.startswith("fipo ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_accepted(command):
    options = _parser().parse_args(shlex.split(command, comments=True)[3:])
    if "parameters" in options:
        arguments(options.pipeline, _parameters(options), options.overrides)
        load_config(options.recipe, options.overrides)
    if getattr(options, "cron", ""):
        check_cron(options.cron)


@pytest.mark.parametrize("command", OF_FIPO)
def test_commands_of_fipo_are_accepted(command):
    cli._parser().parse_args(shlex.split(command, comments=True)[1:])


def test_there_are_commands():
    assert {"cluster", "status", "report", "compare"} <= {command.split()[1] for command in OF_FIPO}
    assert {"submit", "schedule", "list"} <= {command.split("pipelines ")[1].split()[0] for command in COMMANDS}


def test_what_compiles_a_package_for_a_shared_kubeflow_names_the_image():
    """`submit` and `schedule` compile anew, whatever was compiled before; of the shell there is what the block says."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT.replace("\\\n", " "), re.MULTILINE | re.DOTALL)
    shared = [block for block in blocks if re.search(r"pipelines (submit|schedule) .*example(?!.*--off)", block)]
    assert len(shared) == 4, "to begin with, with servers, a schedule, and that of the next version"
    for block in shared:
        assert block.index("export FIPO_IMAGE=") < block.index("python -m pipelines"), block


def test_options_in_the_text_are_accepted():
    (arms,) = re.findall(r"`(--pipeline fipo_comparison [^`]+)`", TEXT)
    (model,) = re.findall(r"`(--pipeline fipo_evaluation [^`]+)`", TEXT)
    for options in (arms, model):
        parsed = _parser().parse_args(["submit", *shlex.split(options)])
        arguments(parsed.pipeline, _parameters(parsed), parsed.overrides)


def test_files_in_the_text_exist():
    paths = set(re.findall(r"(?<![\w./])((?:k8s|pipelines|components|tests)/[\w./-]+[\w])", TEXT))
    for path in paths - {"pipelines/manifests", "k8s/overlays/mine"}:
        if "github.com" not in path and not re.match(r"pipelines/manifests", path):
            assert (ROOT / path).exists(), path


def test_secrets_in_the_text_are_those_that_the_manifests_ask_for():
    rendered = "".join((ROOT / "k8s" / "rendered" / f"{overlay}.yaml").read_text() for overlay in ("local", "gpu"))
    asked = set(re.findall(r"secretKeyRef:\n\s+key: (\w+)", rendered))
    made = set(re.findall(r"--from-literal=(\w+)=", BLOCKS))
    assert asked - {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} == made, (
        "those of an MLflow elsewhere aside"
    )


def test_webhooks_are_waited_for_before_anything_of_ours_is_applied():
    """Trainer's judges our runtimes as they are applied: `failed calling webhook ... connection refused`."""
    lines = [line for line in BLOCKS.splitlines() if line.startswith("kubectl ")]
    (trainer,) = [number for number, line in enumerate(lines) if "kubeflow/trainer/manifests" in line]
    waits = [number for number, line in enumerate(lines) if "kubeflow-system wait --for=condition=Available" in line]
    ours = [number for number, line in enumerate(lines) if "k8s/overlays/" in line]
    assert trainer < waits[0] < ours[0]


def test_what_is_said_of_a_read_only_root_is_true():
    """Kubeflow can set none on the pods of tasks; see tests/k8s/test_task_pods.py."""
    (line,) = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if "read-only root" in line]
    assert "a read-only root but for the tasks" in line
