"""A Kubernetes control plane on this machine: etcd, kube-apiserver and, where they are there too, its controllers.

The programs come from the folder that `KUBEBUILDER_ASSETS` names, as `setup-envtest use -p env` prints it. It has no
kubelet: pods are made, judged and counted, and never run.
"""

import base64
import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.waiting import free_port, wait_until

ASSETS = "KUBEBUILDER_ASSETS"
NEEDED = ("etcd", "kube-apiserver", "kubectl")
START_SECONDS = 120.0
"""Until the API server answers: its first start makes its roles, which takes seconds on a busy machine."""
READY = ("/readyz", "/openapi/v2", "/openapi/v3")
"""The last two come later, and kubectl validates by them."""

Manifest = dict[str, Any]


def missing(*programs: str) -> str:
    """Why the programs cannot be started; empty when they can."""
    folder = os.environ.get(ASSETS, "")
    if not folder:
        return f"{ASSETS} names no folder with {', '.join(programs)}: `setup-envtest use -p env` makes and prints one"
    lacking = [name for name in programs if not os.access(Path(folder) / name, os.X_OK)]
    return f"{folder} ({ASSETS}) lacks {', '.join(lacking)}" if lacking else ""


def asset(program: str) -> str:
    """Path of a program."""
    return str(Path(os.environ[ASSETS]) / program)


class Refused(AssertionError):
    """The API server, or kubectl, did not do what it was asked; the message is theirs."""


@dataclass
class ControlPlane:
    """A running API server, and who asks it: kubectl with the rights of `kubeconfig`'s user."""

    url: str
    folder: Path
    kubeconfig: Path
    """Of an administrator."""
    programs: list["Program"] = field(default_factory=list)
    """All that runs, first started first."""

    def kubectl(self, *arguments: str, text: str = "", check: bool = True) -> str:
        """Standard output of kubectl, and what it said besides where `check` is off.

        Raises:
            Refused: it failed.
        """
        command = [asset("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise Refused(f"{' '.join(arguments)}\n{done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, manifests: Sequence[Manifest], *options: str) -> list[str]:
        """One line for each object, as kubectl says it: `role.rbac.authorization.k8s.io/x created`."""
        return self.kubectl("apply", *options, "--filename", "-", text=stream(manifests)).splitlines()

    def get(self, *what: str) -> Manifest:
        """An object, or a list."""
        found: Manifest = json.loads(self.kubectl("get", *what, "--output", "json"))
        return found

    def items(self, *what: str) -> list[Manifest]:
        """The objects of a list."""
        return list(self.get(*what)["items"])

    def review(self, reviews: Sequence[Manifest]) -> list[Manifest]:
        """The API server's answers to access reviews, in their order."""
        text = self.kubectl("create", "--output", "json", "--filename", "-", text=stream(reviews))
        decoder, answers = json.JSONDecoder(), list[Manifest]()
        while text := text.lstrip():
            answer, end = decoder.raw_decode(text)
            answers += answer["items"] if answer.get("kind") == "List" else [answer]
            text = text[end:]
        return answers

    def acting_as(self, namespace: str, account: str) -> "ControlPlane":
        """The same cluster as a service account sees it, with a token of its own."""
        token = self.kubectl("--namespace", namespace, "create", "token", account).strip()
        path = self.folder / f"{namespace}-{account}.yaml"
        write_kubeconfig(path, self.url, self.folder / "certificates" / "apiserver.crt", token, namespace)
        return ControlPlane(self.url, self.folder, path)


def stream(manifests: Sequence[Manifest]) -> str:
    """One JSON document after another, as kubectl reads them."""
    return "\n".join(map(json.dumps, manifests))


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """etcd and an API server with the admission plugins and the authorizers of a usual cluster."""
    with _programs() as running:
        store = f"http://127.0.0.1:{free_port()}"
        running.start(
            folder,
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync",
        )
        keys, token, port = _service_account_keys(folder), "administrator", free_port()
        (folder / "tokens.csv").write_text(f'{token},admin,0,"system:masters"\n')
        running.start(
            folder,
            "kube-apiserver",
            f"--etcd-servers={store}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            # Beside those that are on by default: PodSecurity, ResourceQuota, LimitRanger, ServiceAccount, Priority,
            # ValidatingAdmissionPolicy and the webhooks.
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            "--service-cluster-ip-range=10.96.0.0/16",
        )
        url, kubeconfig = f"https://127.0.0.1:{port}", folder / "kubeconfig"
        wait_until(lambda: running.alive() and all(_answers(url + path, token) for path in READY), START_SECONDS)
        write_kubeconfig(kubeconfig, url, folder / "certificates" / "apiserver.crt", token, "default")
        plane = ControlPlane(url, folder, kubeconfig, running.programs)
        # Pods need it, and the controller that makes it may be missing.
        plane.kubectl("--namespace", "default", "create", "serviceaccount", "default", check=False)
        yield plane


class Program:
    """A process with a log of its own."""

    def __init__(self, folder: Path, name: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [asset(name), *arguments], stdout=log, stderr=log, cwd=folder, env={**os.environ, **(environment or {})}
            )

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class _Running:
    def __init__(self) -> None:
        self.programs: list[Program] = []

    def start(self, folder: Path, name: str, *arguments: str) -> None:
        self.programs.append(Program(folder, name, *arguments))

    def alive(self) -> bool:
        for program in self.programs:
            if program.process.poll() is not None:
                raise Refused(f"{program.name} ended:\n{program.log.read_text()[-2000:]}")
        return True


@contextmanager
def _programs() -> Iterator[_Running]:
    running = _Running()
    try:
        yield running
    finally:
        for program in reversed(running.programs):
            program.stop()


def write_kubeconfig(path: Path, url: str, certificate: Path, token: str, namespace: str) -> None:
    """The file that kubectl and the clients read."""
    trusted = base64.b64encode(certificate.read_bytes()).decode()
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        # The certificate that the API server makes itself is for names, its own address among them.
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": trusted}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": context}],
    }
    path.write_text(yaml.safe_dump(kubeconfig))


def _service_account_keys(folder: Path) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = folder / "service-accounts.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return path


def _answers(url: str, token: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5, context=ssl._create_unverified_context()) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
