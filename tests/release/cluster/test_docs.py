"""Every command of docs/serving.md, with a small model in the demo's place."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fipo.cli import main
from fipo.config import Deploy, load_config
from fipo.release.registry import served
from tests.present import present

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
PROBLEM = "Add modulo 5 : 1 2 3 4 0 1 2 3 4 0 1 2"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


REGISTRY = "http://localhost:5000"
"""Of the cluster, by a port-forward."""
COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


def small(text):
    """With the model of these tests, and a problem that it can read."""
    return text.replace("fipo-demo", "sums").replace(PROBLEM, "1 + 2 =")


def command(name):
    """The arguments of the page's `fipo NAME`."""
    (line,) = [line for line in COMMANDS if f"fipo {name} " in line]
    return shlex.split(small(line))[1:]


def test_no_command_is_left_out():
    assert [shlex.split(line)[:2] for line in COMMANDS] == [
        ["make", "demo"],
        *([".venv/bin/fipo", "serve"], ["kubectl", "apply"], [".venv/bin/fipo", "deploy"]),
        *([".venv/bin/fipo", "rollback"], [".venv/bin/fipo", "chat"]),
    ]


def test_deploy_roll_back_and_chat(cluster, role, registry, versions, capsys):
    cluster.act_as(role)
    where = ["--set", f"tracking.uri={registry}"]
    settings = load_config("demo").to_yaml()
    versions(0, settings=settings)
    assert f"tracking.uri={REGISTRY}" in command("deploy"), "else it looks in this machine's"
    main([*command("deploy"), *where])
    versions(1, settings=settings)
    main([*command("deploy"), *where])
    assert cluster.serving() == ["2"]
    main([*command("rollback"), *where])
    assert cluster.serving() == ["1"] and present(served(registry, "sums")).version == "1"
    capsys.readouterr()
    main([*command("chat"), *where, "--temperature", "0"])
    assert capsys.readouterr().out.split()


@pytest.mark.slow
def test_serve_and_the_client(registry, versions, tools):
    versions(0, settings=load_config("demo").to_yaml())
    port = tools.free_port()
    with tools.fipo_serve(*command("serve")[1:], "--set", f"tracking.uri={registry}", "--port", port) as serving:
        serving.wait_until_ready()
        (code,) = blocks("python")
        code = small(code).replace("8000", str(port)).replace("max_tokens=24", "max_tokens=24, temperature=0")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_overlay_gives_the_role_to_the_tasks(tmp_path):
    (text,) = blocks("yaml")
    for overlay, namespace, account in [("gpu", "fipo", "default-editor"), ("local", "kubeflow", "pipeline-runner")]:
        mine = yaml.safe_load(text)
        assert mine["resources"] == ["../gpu"]
        folder = tmp_path / overlay
        folder.mkdir()
        mine["namespace"] = namespace
        mine["resources"] = [os.path.relpath(ROOT / "k8s/overlays" / overlay, folder)]
        mine["components"] = [os.path.relpath(ROOT / "k8s/components/serving", folder)]
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(mine))
        built = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True).stdout
        found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built)}
        binding = found["RoleBinding", "fipo-deployer"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
        assert found["ServiceAccount", "fipo-server"]["automountServiceAccountToken"] is False


def test_the_table_of_settings_is_complete():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `deploy.")]
    named = [name.removeprefix("deploy.") for row in rows for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1])]
    assert named == list(Deploy.model_fields)
