"""`fipo cluster check` against a real API server: of an administrator, and of someone who may look at little."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fipo.findings import failed
from fipo.launch.check import check_cluster
from tests.apiserver.platform import make_namespace, moved, pretend_webhooks
from tests.k8s.test_manifests import load

SECRETS = {
    "fipo": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "mlflow": ("backend_store_uri",),
    "fipo-rollouts": ("token",),
}


class Pipelines(BaseHTTPRequestHandler):
    """Kubeflow Pipelines' answer to who asks whether it is well."""

    def do_GET(self):
        text = json.dumps({"multi_user": True, "apiServerReady": True, "frontendTagName": "2.17.0"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pipelines():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pipelines)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def place(plane, fresh_name):
    """A namespace in which all is there, as far as an API server can hold it without controllers."""
    name = fresh_name("check")
    make_namespace(plane, "kubeflow-system")
    make_namespace(plane, name)
    pretend_webhooks(plane)
    plane.apply(moved(load("gpu"), name))
    make_namespace(plane, name, "default-editor")
    inside = ["--namespace", name]
    for secret, keys in SECRETS.items():
        literals = [f"--from-literal={key}=hidden" for key in keys]
        plane.kubectl(*inside, "create", "secret", "generic", secret, *literals)
    status(plane, name, "deployment/mlflow", {"replicas": 1, "availableReplicas": 1, "readyReplicas": 1})
    status(plane, name, "pvc/fipo-runs", {"phase": "Bound"})
    hard = plane.get(*inside, "resourcequota", "fipo")["spec"]["hard"]
    status(plane, name, "resourcequota/fipo", {"hard": hard, "used": dict.fromkeys(hard, "0")})
    return name


def status(plane, place, what, is_now):
    patch = json.dumps({"status": is_now})
    plane.kubectl("--namespace", place, "patch", what, "--subresource=status", "--type=merge", "--patch", patch)


def told(findings):
    return "\n".join(f"{entry.check}: {entry.status}: {entry.found} | {entry.remedy}" for entry in findings)


def test_with_all_in_place_it_passes(plane, place, pipelines, as_client):
    as_client(plane)
    findings = check_cluster(namespace=place, recipe="paper-32b", host=pipelines)
    assert not failed(findings), told(findings)
    found = told(findings)
    for words in (
        "default-editor may start",
        "Pod Security restricted",
        "several users",
        "requests.nvidia.com/gpu 128 of 144",
    ):
        assert words in found, found
    assert "hidden" not in found


FAULTS = {
    "no secret": (("secret", "mlflow"), "secret mlflow: failed"),
    "no runtime": (("trainingruntime", "fipo-0-2-0"), "runtime fipo-0-2-0: failed"),
    "no role": (("rolebinding", "fipo-launcher"), "no RoleBinding fipo-launcher"),
    "no config map": (("configmap", "fipo"), "config map fipo: failed"),
    "no account": (("serviceaccount", "default-editor"), "no service account"),
    "no MLflow": (("deployment", "mlflow"), "no Deployment mlflow"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_missing_is_found(plane, place, pipelines, as_client, case):
    as_client(plane)
    (kind, name), said = FAULTS[case]
    kept = plane.get("--namespace", place, kind, name)
    state = kept.pop("status", None)
    plane.kubectl("--namespace", place, "delete", kind, name)
    try:
        assert said in told(check_cluster(namespace=place, host=pipelines))
    finally:
        kept["metadata"] = {
            key: kept["metadata"][key] for key in ("name", "namespace", "labels") if key in kept["metadata"]
        }
        plane.kubectl("create", "--filename", "-", text=json.dumps(kept))
        if state and kind == "deployment":
            status(plane, place, f"{kind}/{name}", {"replicas": 1, "availableReplicas": 1, "readyReplicas": 1})


def test_a_pod_that_does_not_start_is_shown_with_its_event(plane, place, pipelines, as_client):
    as_client(plane)
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    container = {
        "name": "c",
        "image": "i",
        "securityContext": {**restricted, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "broken", "namespace": place, "labels": {"app.kubernetes.io/part-of": "fipo"}},
        "spec": {"containers": [container]},
    }
    plane.kubectl("create", "--filename", "-", text=json.dumps(pod))
    waiting = {"reason": "ImagePullBackOff", "message": "back-off"}
    state = {"name": "c", "ready": False, "restartCount": 0, "image": "i", "imageID": "", "state": {"waiting": waiting}}
    status(plane, place, "pod/broken", {"phase": "Pending", "containerStatuses": [state]})
    try:
        assert "pod broken: failed: ImagePullBackOff" in told(check_cluster(namespace=place, host=pipelines))
    finally:
        plane.kubectl("--namespace", place, "delete", "pod", "broken", "--grace-period=0", "--force")


def test_who_may_look_at_little_is_warned_and_not_stopped(plane, place, pipelines, as_client):
    """The account of the tasks itself: no secrets, no webhooks, no reviews."""
    as_client(plane.acting_as(place, "default-editor"))
    findings = check_cluster(namespace=place, host=pipelines)
    assert any(finding.status == "warning" and "administrator" in finding.remedy for finding in findings)
    assert findings[0].status == "ok" and "Kubernetes" in findings[0].check
