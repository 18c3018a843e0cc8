"""Reads anything of a cluster by its path in the API: for those who look whether all is there."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

from fipo.errors import LaunchError
from fipo.launch.cluster import Manifest, connect

TIMEOUT_SECONDS = (5.0, 15.0)
"""To connect, and to answer."""


class Forbidden(LaunchError):
    """This user may not look."""


class Unreachable(LaunchError):
    """The API server did not answer, or not sensibly."""


class Reader:
    """The cluster of the kubeconfig or of this pod, and the namespace that it names.

    Raises:
        LaunchError: neither a service account nor a kubeconfig is at hand.
    """

    def __init__(self) -> None:
        self.namespace = connect()
        self._api = client.ApiClient()

    def get(self, path: str, **query: str) -> Manifest | None:
        """An object, a list or a group of the API; None where there is no such thing."""
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path)

    def items(self, path: str, **query: str) -> list[Manifest]:
        """The objects of a list."""
        found = self.get(path, **query)
        return list(found["items"]) if found else []

    def create(self, path: str, manifest: Manifest) -> Manifest:
        """What the API server answers to a review."""
        answer = self._call("POST", path, manifest)
        if answer is None:
            raise Unreachable(f"the API server knows no {path}")
        return answer

    def _call(self, method: str, path: str, body: Any = None) -> Manifest | None:
        try:
            answer = self._api.call_api(
                path,
                method,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=TIMEOUT_SECONDS,
            )
            found: Manifest = json.loads(answer.data)
            return found
        except client.ApiException as error:
            if error.status == 404:
                return None
            if error.status in (401, 403):
                raise Forbidden(f"this user may not {method.lower()} {path.partition('?')[0]}") from None
            raise Unreachable(f"the API server answered {error.status} {error.reason} to {path}") from None
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"the API server cannot be reached: {error}") from None


def quantity(text: str | int) -> float:
    """The number that Kubernetes means: `8Ti`, `500m`, `64`."""
    return float(parse_quantity(text))
