"""The controllers of Kubernetes, JobSet and Kubeflow Trainer beside the API server, and a kubelet that only pretends.

The folder of the assets must hold them too: `kube-controller-manager` and `kube-scheduler`, and the managers of JobSet
and Trainer as `jobset-manager` and `trainer-manager`. `FIPO_TEST_MANIFESTS` names a folder with `jobset.yaml` and
`trainer.yaml`, their installations as kustomize renders them: of these everything is applied but the Deployments, for
the managers run here, and their webhooks are asked at this machine's address.
"""

import base64
import datetime
import ipaddress
import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client, config

from tests.apiserver.control_plane import ControlPlane, Manifest, Program
from tests.waiting import free_port, wait_until

PROGRAMS = ("kube-controller-manager", "kube-scheduler", "jobset-manager", "trainer-manager")
INSTALLATIONS = "FIPO_TEST_MANIFESTS"
HOOKS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
NODE = "node-1"


def lacks_installations() -> str:
    """Why JobSet and Trainer cannot be installed; empty when they can."""
    folder = Path(os.environ.get(INSTALLATIONS) or "/nowhere")
    there = all((folder / f"{name}.yaml").is_file() for name in ("jobset", "trainer"))
    return "" if there else f"{INSTALLATIONS} names no folder with jobset.yaml and trainer.yaml"


@contextmanager
def controllers(plane: ControlPlane) -> Iterator[None]:
    """All of them, and a node whose pods `Kubelet` lets run."""
    started: list[Program] = []
    try:
        _start_kubernetes(plane, started)
        for name, api in (("jobset", "config.jobset.x-k8s.io"), ("trainer", "config.trainer.kubeflow.org")):
            _start_manager(plane, started, name, f"{api}/v1alpha1")
        _make_node(plane)
        yield
    finally:
        for program in reversed(started):
            program.stop()


def _start_kubernetes(plane: ControlPlane, started: list[Program]) -> None:
    common = [f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]
    certificates = plane.folder / "certificates"
    started.append(
        Program(
            plane.folder,
            "kube-controller-manager",
            *common,
            f"--secure-port={free_port()}",
            f"--cert-dir={certificates / 'controllers'}",
            f"--service-account-private-key-file={plane.folder / 'service-accounts.key'}",
            f"--root-ca-file={certificates / 'apiserver.crt'}",
            # Nobody renews the node's lease.
            "--controllers=*,-node-lifecycle-controller,-node-ipam-controller,-node-route-controller",
            "--concurrent-gc-syncs=5",
        )
    )
    started.append(
        Program(
            plane.folder,
            "kube-scheduler",
            *common,
            f"--secure-port={free_port()}",
            f"--cert-dir={certificates / 'scheduler'}",
        )
    )


def _start_manager(plane: ControlPlane, started: list[Program], name: str, version: str) -> None:
    port, health = free_port(), free_port()
    temporary = plane.folder / f"{name}-tmp"
    authority = _certificate(temporary / "k8s-webhook-server" / "serving-certs")
    installation = Path(os.environ[INSTALLATIONS]) / f"{name}.yaml"
    items = [item for item in yaml.safe_load_all(installation.read_text()) if item and item["kind"] != "Deployment"]
    plane.apply([item for item in items if item["kind"] not in HOOKS], "--server-side", "--force-conflicts")
    disabled = {"enable": False}
    settings = {
        "apiVersion": version,
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"port": port, "host": "127.0.0.1"},
        "leaderElection": {"leaderElect": False},
        ("certManagement" if name == "trainer" else "internalCertManagement"): disabled,
    }
    path = plane.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    environment = {"KUBECONFIG": str(plane.kubeconfig), "TMPDIR": str(temporary)}
    started.append(Program(plane.folder, f"{name}-manager", f"--config={path}", environment=environment))
    hooks = [_at_this_machine(item, port, authority) for item in items if item["kind"] in HOOKS]
    wait_until(lambda: _ready(started[-1], health))
    plane.apply(hooks, "--server-side", "--force-conflicts")


def _at_this_machine(item: Manifest, port: int, authority: bytes) -> Manifest:
    for hook in item["webhooks"]:
        path = hook["clientConfig"].pop("service")["path"]
        bundle = base64.b64encode(authority).decode()
        hook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle}
    return item


def _ready(program: Program, port: int) -> bool:
    assert program.process.poll() is None, program.log.read_text()[-3000:]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _certificate(folder: Path) -> bytes:
    """A key and a certificate for this machine's address, which vouches for itself."""
    folder.mkdir(parents=True)
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.key").write_bytes(private)
    (folder / "tls.crt").write_bytes(public)
    return public


def _make_node(plane: ControlPlane) -> None:
    plane.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}])
    # "not ready", which admission adds and the controller that is off takes away.
    plane.kubectl("patch", "node", NODE, "--type=merge", "--patch", json.dumps({"spec": {"taints": None}}))
    room = {"cpu": "4096", "memory": "64Ti", "pods": "1000", "nvidia.com/gpu": "512", "ephemeral-storage": "64Ti"}
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    status = {"capacity": room, "allocatable": room, "conditions": [condition]}
    plane.kubectl(
        "patch", "node", NODE, "--subresource=status", "--type=merge", "--patch", json.dumps({"status": status})
    )


class Kubelet:
    """Takes each pod that is bound to the node through the life that a test gives it; lets go of deleted ones.

    `lives` has exit codes by the beginning of a pod's name, one for each pod of that name in turn. A pod without one
    runs until it is deleted.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.namespace = namespace
        self.lives: dict[str, list[int]] = {}
        self._api = client.CoreV1Api(config.new_client_from_config(str(plane.kubeconfig)))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._seen: set[str] = set()

    def __enter__(self) -> "Kubelet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(0.2):
            for pod in self._api.list_namespaced_pod(self.namespace).items:
                with suppress(client.ApiException):  # it was deleted meanwhile
                    self._look_after(pod)

    def _look_after(self, pod: client.V1Pod) -> None:
        name = pod.metadata.name
        if pod.metadata.deletion_timestamp:
            if pod.status.phase == "Running":  # the job's controller lets go of pods that have ended
                self._end(pod, 143)
            self._api.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)
        elif pod.spec.node_name and pod.metadata.uid not in self._seen:
            self._seen.add(pod.metadata.uid)
            self._set(pod, "Running", {"running": {"startedAt": _now()}})
            if codes := next((codes for start, codes in self.lives.items() if name.startswith(start)), []):
                self._end(pod, codes.pop(0))

    def _end(self, pod: client.V1Pod, code: int) -> None:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _now()}
        self._set(pod, "Failed" if code else "Succeeded", {"terminated": ended})

    def _set(self, pod: client.V1Pod, phase: str, state: Manifest) -> None:
        ready = phase == "Running"
        about = {"ready": ready, "imageID": "", "restartCount": 0, "state": state}
        containers = [{"name": one.name, "image": one.image, **about} for one in pod.spec.containers]
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": _now()}
        status = {"phase": phase, "conditions": [condition], "containerStatuses": containers, "startTime": _now()}
        self._api.patch_namespaced_pod_status(pod.metadata.name, self.namespace, {"status": status})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
