"""What serves a model, in the Kubernetes API: objects applied as a whole, their pods, and what goes wrong with them."""

from __future__ import annotations

import os
import re
from typing import Any

from kubernetes import client

from fipo.launch.cluster import Cluster, Manifest, _or_none

PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
    "Service": "/api/v1/namespaces/{namespace}/services/{name}",
    "InferenceService": "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}",
}
"""Of the kinds that are made."""
KSERVE = "/apis/serving.kserve.io/v1beta1"


class ServingCluster(Cluster):
    """One namespace: the one named, or the pod's own, or the kubeconfig's.

    Raises:
        LaunchError: neither a service account nor a kubeconfig is at hand.
    """

    def __init__(self, namespace: str = "") -> None:
        super().__init__()
        self.namespace = namespace or self.namespace
        self.inside = "KUBERNETES_SERVICE_HOST" in os.environ
        """Whether addresses of the cluster's services can be reached from here."""
        self._client = client.ApiClient()

    def has_kserve(self) -> bool:
        """Whether the API server knows InferenceServices; everyone may ask that."""
        return _or_none(lambda: self._request("GET", KSERVE)) is not None

    def find(self, kind: str, name: str) -> Manifest | None:
        """An object of `PATHS`, or None."""
        return _or_none(lambda: self._request("GET", PATHS[kind], name=name))

    def apply(self, manifest: Manifest) -> Manifest:
        """Create the object, or make the present one so: what is no longer named goes (server-side apply)."""
        path, name = PATHS[manifest["kind"]], manifest["metadata"]["name"]
        return self._request("PATCH", path, name=name, body=manifest)

    def warnings_about(self, name: str, since: str) -> list[str]:
        """Events of type Warning about the object and what controllers make of it, since a time (RFC 3339, UTC)."""
        # Deployments of KServe have a suffix, then come replica sets and pods.
        ours = re.compile(rf"{re.escape(name)}(-predictor)?(-[a-z0-9]{{8,10}}(-[a-z0-9]{{5}})?)?")
        found = self._call(self._core.list_namespaced_event, field_selector="type=Warning")
        return [
            f"{event['reason']}: {event.get('message', '')} ({event['involvedObject']['kind']})"
            for event in found["items"]
            if ours.fullmatch(event["involvedObject"].get("name", ""))
            and (event.get("lastTimestamp") or event.get("eventTime") or since) >= since
        ]

    def _request(self, method: str, path: str, name: str = "", body: Manifest | None = None) -> Manifest:
        def call(namespace: str, **options: Any) -> Any:
            # JSON is YAML.
            headers = {"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"}
            return self._client.call_api(
                path.format(namespace=namespace, name=name),
                method,
                header_params=headers if body else {"Accept": "application/json"},
                query_params=[("fieldManager", "fipo"), ("force", "true")] if body else [],
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                **options,
            )

        return self._call(call)
