"""A manifest's container as a process here: its own command, arguments and environment, as Kubernetes fills them.

What differs is where it runs: mounts are folders of a test, ports are free ones on the loopback.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import free_port

BIN = Path(sys.executable).parent
Data = dict[str, dict[str, str]]


def expand(text: str, variables: dict[str, str]) -> str:
    """`$(NAME)` by the variable's value, once; `$$` is a dollar, and an unknown name stays as it is.

    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables
    """

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else variables.get(match[2], match[0])

    return re.sub(r"\$(\$|\(([^()]*)\))", value, text)


@dataclass
class Pod:
    """A pod of a manifest; `folder` holds its volumes."""

    manifest: dict[str, Any]
    folder: Path
    secrets: Data = field(default_factory=dict)
    config_maps: Data = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    """Of the image, for containers that name no command."""
    image_environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.manifest["spec"]["template"]["spec"]
        return spec

    def run_init_containers(self, timeout: float = 120) -> None:
        """One after the other; raises CalledProcessError where one fails."""
        for container in self.spec.get("initContainers", []):
            command, environment = self.process(container)
            subprocess.run(command, env=environment, cwd=self.folder, check=True, timeout=timeout, capture_output=True)

    def start(self) -> subprocess.Popen[bytes]:
        """The pod's only container, with what it prints in `log`."""
        (container,) = self.spec["containers"]
        command, environment = self.process(container)
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def process(self, container: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        """The command and environment of one of its containers."""
        mounts = self._mounts(container)
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(mounts["/tmp"]), **self.image_environment}
        if path := os.environ.get("PYTHONPATH"):
            environment["PYTHONPATH"] = path
        for variable in container.get("env", []):
            environment[variable["name"]] = self._value(variable, environment, mounts)
        command = [*container.get("command", self.entrypoint), *container.get("args", [])]
        ports = [port["containerPort"] for port in container.get("ports", [])]
        return [self._here(expand(part, environment), mounts, ports) for part in command], environment

    def _value(self, variable: dict[str, Any], environment: dict[str, str], mounts: dict[str, Path]) -> str:
        match variable.get("valueFrom", {}):
            case {"secretKeyRef": {"name": name, "key": key}}:
                return self.secrets[name][key]
            case {"configMapKeyRef": {"name": name, "key": key}}:
                return self.config_maps[name][key]
            case {"fieldRef": {"fieldPath": "metadata.namespace"}}:
                return str(self.manifest["metadata"]["namespace"])
        return self._here(expand(variable["value"], environment), mounts, [])

    def _mounts(self, container: dict[str, Any]) -> dict[str, Path]:
        secrets = {volume["name"]: volume["secret"] for volume in self.spec.get("volumes", []) if "secret" in volume}
        mounts = {}
        for mount in container.get("volumeMounts", []):
            folder = mounts[mount["mountPath"]] = self.folder / mount["name"]
            folder.mkdir(exist_ok=True)
            secret = secrets.get(mount["name"], {"items": []})
            for item in secret["items"]:
                (folder / item["path"]).write_text(self.secrets[secret["secretName"]][item["key"]])
        return mounts

    def _here(self, text: str, mounts: dict[str, Path], ports: list[int]) -> str:
        paths = "|".join(map(re.escape, mounts))
        text = re.sub(rf"(?<![^=])({paths})(?=/|$)", lambda match: str(mounts[match[1]]), text)
        for port in ports:
            text = re.sub(rf"(?<=[=:]){port}$", str(self.port), text)
        return text.replace("--host=0.0.0.0", "--host=127.0.0.1").replace("--addr=:", "--addr=127.0.0.1:")
