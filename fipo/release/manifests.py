"""What the cluster is asked to serve: a KServe InferenceService, or a Deployment and its Service.

Each object carries its own record, from which the same objects are made again: with another version, or to go back.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from fipo.config import Deploy
from fipo.release.registry import RegisteredModel

Manifest = dict[str, Any]
Kind = Literal["InferenceService", "Deployment"]

PORT = 8080
CONTAINER = "kserve-container"
"""KServe fixes the name."""
CONFIG_MAP = SECRET = "fipo"
CONFIG = {"AWS_ENDPOINT_URL_S3": "s3_endpoint", "AWS_RESPONSE_CHECKSUM_VALIDATION": "s3_response_checksums"}
"""Variables of the server, and the config map's keys; the model's address and digest are all else it needs to know."""
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of the secret: the server reads the object store and nothing more."""
ACCOUNT = "fipo-server"
COMPONENT = "serving"
_PROBE_SECONDS = 5
_RECORD = "fipo.dev/served"
_REVISION = "fipo.dev/revision"


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a model and how it is served: all that its objects follow from."""

    model: str
    version: str
    sha256: str
    """Of the weights; pods refuse others."""
    uri: str
    """Of the folder with the weights, in the object store."""
    image: str
    settings: Deploy

    @classmethod
    def of(cls, model: RegisteredModel, settings: Deploy, image: str) -> Served:
        """A registered version."""
        return cls(model.name, model.version, model.sha256, model.uri, image, settings)

    @classmethod
    def recorded(cls, manifest: Manifest) -> Served | None:
        """What an object of the cluster says that it serves; None where it is not fipo's."""
        record = manifest["metadata"].get("annotations", {}).get(_RECORD)
        if record is None:
            return None
        fields = json.loads(record)
        return cls(**{**fields, "settings": Deploy.model_validate(fields["settings"])})

    def at(self, model: RegisteredModel) -> Served:
        """Another version, served in the same way."""
        return replace(self, version=model.version, sha256=model.sha256, uri=model.uri)

    @property
    def name(self) -> str:
        """Of the objects."""
        return self.settings.name or kubernetes_name(self.model)

    @property
    def revision(self) -> str:
        """Tells pods of one record from those of another."""
        return hashlib.sha256(self._record().encode()).hexdigest()[:12]

    @property
    def selector(self) -> dict[str, str]:
        """Labels of the pods, whatever their version."""
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/component": COMPONENT}

    def is_at(self, pod: Manifest) -> bool:
        """Whether a pod, or an object, is of this record."""
        return bool(pod["metadata"].get("labels", {}).get(_REVISION) == self.revision)

    def manifests(self, kind: Kind) -> list[Manifest]:
        """To be applied in this order."""
        if kind == "InferenceService":
            return [self._inference_service()]
        return [self._service(), self._deployment()]

    def _deployment(self) -> Manifest:
        spec = {
            "replicas": self.settings.replicas,
            "selector": {"matchLabels": self.selector},
            "strategy": ROLLING,
            "progressDeadlineSeconds": math.ceil(self.settings.patience_seconds) + 60,
            "template": {"metadata": {"labels": self._pod_labels()}, "spec": self._pod()},
        }
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": self._metadata(), "spec": spec}

    def _service(self) -> Manifest:
        metadata = {"name": self.name, "labels": self._labels()}
        spec = {"selector": self.selector, "ports": [{"name": "http", "port": 80, "targetPort": PORT}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    def _inference_service(self) -> Manifest:
        metadata = self._metadata()
        # A Deployment in KServe's hands: whatever its own default, no Knative and no autoscaler of pods.
        metadata["annotations"] |= {
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": "none",
        }
        predictor = {
            "labels": self._pod_labels(),
            "minReplicas": self.settings.replicas,
            "maxReplicas": self.settings.replicas,
            "deploymentStrategy": ROLLING,
            **self._pod(),
        }
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": metadata,
            "spec": {"predictor": predictor},
        }

    def _metadata(self) -> Manifest:
        who = {"model": self.model, "version": self.version, "sha256": self.sha256}
        annotations = {**{f"fipo.dev/{key}": value for key, value in who.items()}, _RECORD: self._record()}
        return {"name": self.name, "labels": self._labels(), "annotations": annotations}

    def _labels(self) -> dict[str, str]:
        ours = {"app.kubernetes.io/part-of": "fipo", "app.kubernetes.io/managed-by": "fipo"}
        return {**self.selector, **ours, _REVISION: self.revision}

    def _pod_labels(self) -> dict[str, str]:
        # Azure gives an account's identity to pods that say so; elsewhere that means nothing.
        return {**self._labels(), "sidecar.istio.io/inject": "false", "azure.workload.identity/use": "true"}

    def _record(self) -> str:
        settings = self.settings.model_dump(mode="json", exclude={"enabled"})
        who = {"model": self.model, "version": self.version, "sha256": self.sha256, "uri": self.uri}
        return json.dumps({**who, "image": self.image, "settings": settings}, sort_keys=True)

    def _pod(self) -> Manifest:
        """Under Pod Security `restricted`, with a read-only root and no token of the API."""
        settings = self.settings
        pod = {
            "serviceAccountName": ACCOUNT,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 60,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": settings.node_selector,
            "tolerations": list(settings.tolerations),
            "containers": [self._container()],
            "volumes": [
                {"name": "models", "emptyDir": {"sizeLimit": "500Gi"}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "10Gi"}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
            ],
        }
        return {key: value for key, value in pod.items() if value not in ({}, [])}

    def _container(self) -> Manifest:
        settings = self.settings
        size = {"cpu": str(settings.cpus), "memory": settings.memory}
        gpus = {"nvidia.com/gpu": str(settings.gpus)} if settings.gpus else {}
        command = ["fipo", "serve", f"{self.uri}@sha256:{self.sha256}", "--name", self.model]
        command += ["--engine", settings.engine, "--host", "0.0.0.0", "--port", str(PORT)]
        health = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": _PROBE_SECONDS, "timeoutSeconds": 5}
        return {
            "name": CONTAINER,
            "image": self.image,
            "command": [*command, "--set", "run.directory=/models"],
            "env": _environment(settings),
            "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
            "startupProbe": {**health, "failureThreshold": math.ceil(settings.patience_seconds / _PROBE_SECONDS)},
            "readinessProbe": health,
            "livenessProbe": {**health, "periodSeconds": 30, "timeoutSeconds": 20},
            # No request is sent to a pod that is going: the others learn of it in this time.
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"requests": size, "limits": {**size, **gpus}},
            "volumeMounts": [
                {"name": "models", "mountPath": "/models"},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "shm", "mountPath": "/dev/shm"},
            ],
        }


ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
"""The version before is served until the new one answers."""


def kubernetes_name(model: str) -> str:
    """A registered model's name as Kubernetes spells names: a letter first, and room for what KServe adds."""
    name = re.sub(r"[^a-z0-9]+", "-", model.lower())
    return (name if name[0].isalpha() else f"fipo-{name}")[:50].rstrip("-")


def _environment(settings: Deploy) -> list[Manifest]:
    refer = [(name, "configMapKeyRef", CONFIG_MAP, key) for name, key in CONFIG.items()]
    refer += [(name, "secretKeyRef", SECRET, name) for name in SECRETS]
    return [
        {"name": "OMP_NUM_THREADS", "value": str(settings.cpus)},  # a container sees all cores of its node
        *(
            {"name": name, "valueFrom": {kind: {"name": holder, "key": key, "optional": True}}}
            for name, kind, holder, key in refer
        ),
    ]
