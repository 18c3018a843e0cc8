"""A cluster of one namespace: an API server over HTTP, a controller that rolls pods over, a way to their addresses."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml

from fipo.config import Architecture, Model
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.evaluation.tables import write_result
from fipo.launch import cluster as api
from fipo.models import load_model, load_tokenizer, save_model
from fipo.outcome import Outcome
from fipo.release import deploy
from fipo.release.registry import champion, register
from fipo.storage import open_store, read_manifest, upload_directory
from fipo.tracking.client import connect
from tests.waiting import free_port

ROOT = Path(__file__).parents[3]
NAMESPACE = "team"
KUBERNETES = "1.34"
SCHEMA = json.loads((ROOT / "tests/k8s/schemas/inferenceservice.json").read_text())["schema"]
MODEL = Model(
    architecture=Architecture(
        vocabulary=("0", "1", "2", "3", "+", "="), hidden_size=16, intermediate_size=16, layers=1, attention_heads=2,
        key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
    )
)  # fmt: skip
PROBLEMS = {"1 + 2 =": "3", "2 + 2 =": "4"}
KINDS = {"deployments": "Deployment", "services": "Service", "inferenceservices": "InferenceService"}


def refuse_unknown(schema):
    if isinstance(schema, list):
        return [refuse_unknown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: refuse_unknown(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def check_object(manifest):
    """Refuse what the API server refuses: unknown fields, wrong types."""
    if manifest["kind"] == "InferenceService":
        top = {**SCHEMA, "properties": {**SCHEMA["properties"], "metadata": {"type": "object"}}}
        jsonschema.validate(manifest, refuse_unknown(top))
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def pod_of(manifest):
    """Labels and spec of the pods that a controller makes."""
    if manifest["kind"] == "Deployment":
        template = manifest["spec"]["template"]
        return template["metadata"]["labels"], template["spec"]
    predictor = manifest["spec"]["predictor"]
    return {**manifest["metadata"]["labels"], **predictor["labels"]}, predictor


class Answering(ThreadingHTTPServer):
    answer: Callable[..., tuple[int, Any]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    server: Answering

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        status, answer = self.server.answer(self.command, self.path, self.headers, body)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PATCH = respond

    def log_message(self, *_):
        pass


def listening(answer):
    server = Answering(("127.0.0.1", 0), Handler)
    server.answer = answer
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class Cluster:
    """The API that `deploy` uses, the controllers behind it, and the service addresses (`http_proxy` leads there)."""

    def __init__(self):
        self.objects, self.pods, self.events, self.logs = {}, {}, [], {}
        self.kserve = False
        self.granted, self.used = set(), set()
        self.writes = []
        """(kind, generation) after each apply."""
        self.breaks = lambda labels, spec: ""
        """Why pods of this template never become ready; empty lets them."""
        self.answers = lambda pod, body: {"choices": [{"message": {"content": "3"}}], "usage": {"completion_tokens": 1}}
        """What a pod answers to a chat request; None is an error 500."""
        self.asked = []
        self.processes, self.ports = {}, {}
        """Of pods that really run."""
        self.on_read = lambda: None
        """Before each read of the served object: what happens in the cluster meanwhile."""
        self.start = self._start
        self._count = 0
        self.api, self.network = listening(self._api), listening(self._route)

    def close(self):
        for server in (self.api, self.network):
            server.shutdown()
            server.server_close()

    def act_as(self, role):
        """Grant what a role grants, and refuse the rest."""
        self.granted = {(verb, name) for rule in role["rules"] for verb in rule["verbs"] for name in rule["resources"]}

    def serving(self):
        """Versions that ready pods serve."""
        return [pod["served"] for pod in self.pods.values() if ready(pod)]

    def _allowed(self, *permission):
        self.used.add(permission)
        return permission in self.granted

    def _api(self, method, url, headers, body):
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if path == "/apis/serving.kserve.io/v1beta1":
            return (200, {"kind": "APIResourceList"}) if self.kserve else (404, "404 page not found")
        parts = path.strip("/").split("/")
        resource, *name = parts[parts.index("namespaces") + 2 :]
        assert parts[parts.index("namespaces") + 1] == NAMESPACE
        verb = {"PATCH": "patch", "GET": "get" if name else "list"}[method]
        if not self._allowed(verb, "/".join([resource, *name[1:]])):
            return 403, {"message": f"cannot {verb} {resource}"}
        if method == "PATCH":
            assert headers["Content-Type"] == "application/apply-patch+yaml"
            assert query == {"fieldManager": ["fipo"], "force": ["true"]}
            if (resource, name[0]) not in self.objects and not self._allowed("create", resource):
                return 403, {"message": f"cannot create {resource}"}
            return 200, self._apply(resource, name[0], yaml.safe_load(body))
        if resource == "events":
            assert query["fieldSelector"] == ["type=Warning"]
            return 200, {"items": self.events}
        if name[1:] == ["log"]:
            return 200, "\n".join(self.logs.get(name[0], []))
        if resource == "pods" and not name:
            wanted = dict(pair.split("=") for pair in query["labelSelector"][0].split(","))
            return 200, {
                "items": [pod for pod in self.pods.values() if wanted.items() <= pod["metadata"]["labels"].items()]
            }
        if resource in KINDS:
            self.on_read()
        found = self.pods.get(name[0]) if resource == "pods" else self.objects.get((resource, name[0]))
        return (200, found) if found else (404, {"message": f'{resource} "{name[0]}" not found'})

    def _apply(self, resource, name, manifest):
        check_object(manifest)
        assert (manifest["kind"], manifest["metadata"]["name"]) == (KINDS[resource], name)
        before = self.objects.get((resource, name))
        same = before and before["spec"] == manifest["spec"]
        manifest["metadata"]["generation"] = before["metadata"]["generation"] + (not same) if before else 1
        self.writes.append((manifest["kind"], manifest["metadata"]["generation"]))
        self.objects[resource, name] = manifest
        if manifest["kind"] == "InferenceService":
            url = f"http://{name}-predictor.{NAMESPACE}.svc.cluster.local"
            manifest["status"] = {"address": {"url": url}}
        if manifest["kind"] != "Service" and not same:
            self._roll(manifest)
        return manifest

    def _roll(self, manifest):
        """As a Deployment with maxUnavailable 0: pods of the old template go when those of the new one are ready."""
        labels, spec = pod_of(manifest)
        strategy = manifest["spec"]["strategy" if manifest["kind"] == "Deployment" else "predictor"]
        strategy = strategy.get("deploymentStrategy", strategy)
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0
        for pod in list(self.pods.values()):
            if "served" in pod and not ready(pod) and pod["metadata"]["labels"] != labels:
                self._end(pod)
        if any(pod["metadata"]["labels"] == labels for pod in self.pods.values()):
            return self._end_others(labels)
        self._count += 1
        suffix = "-predictor" if manifest["kind"] == "InferenceService" else ""
        name = f"{manifest['metadata']['name']}{suffix}-7d5b9c6f8{self._count % 10}-abcd{self._count % 10}"
        who = json.loads(manifest["metadata"]["annotations"]["fipo.dev/served"])
        metadata = {"name": name, "labels": labels, "creationTimestamp": f"2026-11-26T12:00:{self._count:02}Z"}
        self.pods[name] = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}, "served": who["version"]}
        return self.start(self.pods[name])

    def _start(self, pod):
        if why := self.breaks(pod["metadata"]["labels"], pod["spec"]):
            waiting = {"reason": "CrashLoopBackOff", "message": why}
            pod["status"]["containerStatuses"] = [{"name": "kserve-container", "state": {"waiting": waiting}}]
            self.logs[pod["metadata"]["name"]] = ["loading", f"fipo: {why}"]
        else:
            self.make_ready(pod)

    def make_ready(self, pod):
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self._end_others(pod["metadata"]["labels"])

    def _end_others(self, labels):
        """Pods of our own objects, of another template."""
        for pod in list(self.pods.values()):
            theirs, name = pod["metadata"]["labels"], "app.kubernetes.io/name"
            if "served" in pod and theirs != labels and theirs[name] == labels[name]:
                self._end(pod)

    def _end(self, pod):
        self.pods.pop(pod["metadata"]["name"], None)
        if process := self.processes.pop(pod["metadata"]["name"], None):
            process.terminate()

    def _route(self, method, url, headers, body):
        """What `http://<service>.team.svc` leads to."""
        host, path = urlsplit(url).hostname, urlsplit(url).path
        services = [name for kind, name in self.objects if kind != "deployments"]
        hosts = {f"{name}.{NAMESPACE}.svc" for name in services}
        hosts |= {f"{name}-predictor.{NAMESPACE}.svc.cluster.local" for name in services}
        pods = [pod for pod in self.pods.values() if ready(pod)]
        if host not in hosts or not pods:
            return 503, f"no endpoints of {host}"
        self.asked.append(json.loads(body))
        port = self.ports.get(pods[-1]["metadata"]["name"])
        if port is None:
            answer = self.answers(pods[-1], json.loads(body))
            return (200, answer) if answer else (500, "broken")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", body.encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as reply:
                return 200, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def ready(pod):
    return any(one["type"] == "Ready" for one in pod["status"].get("conditions", []))


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The cluster, a kubeconfig that leads to it, and the place of a task inside it."""
    cluster = Cluster()
    url = f"http://127.0.0.1:{cluster.api.server_port}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setattr(deploy, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(api, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(api, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{cluster.network.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("urllib.request._opener", None)  # it keeps the proxy of its first use
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    yield cluster
    for pod in list(cluster.pods.values()):
        cluster._end(pod)
    cluster.close()


@pytest.fixture(scope="session")
def deployer(tmp_path_factory):
    """The manifests of the overlay `gpu` with the component `serving`, as kustomize builds them."""
    folder = tmp_path_factory.mktemp("overlay")
    mine = {"namespace": "fipo", "resources": [os.path.relpath(ROOT / "k8s/overlays/gpu", folder)]}
    mine["components"] = [os.path.relpath(ROOT / "k8s/components/serving", folder)]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    built = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(built.stdout))


@pytest.fixture(scope="session")
def role(deployer):
    (role,) = [one for one in deployer if (one["kind"], one["metadata"]["name"]) == ("Role", "fipo-deployer")]
    return role


@pytest.fixture(scope="session")
def object_store(tmp_path_factory):
    """An S3 server: where it is and its keys, as the config map and the secret hold them."""
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    (folder / "fipo").mkdir()
    command = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", "access,secret-of-the-test", "--config", os.devnull]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield {
        "config": {"s3_endpoint": f"http://127.0.0.1:{port}", "s3_response_checksums": "when_required"},
        "secret": {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"},
    }
    process.kill()
    process.wait()


@pytest.fixture
def credentials(object_store, monkeypatch):
    """What a task finds in its environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", object_store["config"]["s3_endpoint"])
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name, value in object_store["secret"].items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A registry for all tests, as MLflow takes ten seconds to make its tables."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"
    assert champion(uri, "sums") is None
    return uri


@pytest.fixture
def registry(database):
    """The same, emptied."""
    yield database
    client = connect(database)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)


@pytest.fixture
def versions(registry, credentials, tmp_path):
    """`versions(0)`: register the model of this seed as a version of `sums`, with its evaluation, as champion."""
    store = open_store("s3://fipo")

    def versions(seed, *, promote=True, settings="", evaluated=True):
        model = f"models/{seed}"
        if not store.exists(f"{model}/config.json"):
            folder = tmp_path / str(seed)
            save_model(load_model(MODEL, seed=seed), load_tokenizer(MODEL), folder / "model")
            upload_directory(store, folder / "model", model)
            response = GradedResponse("3", "3", Outcome.CORRECT, 1, False, "3")
            problems = [ProblemResult(text, text, answer, (response,)) for text, answer in PROBLEMS.items()]
            write_result(BenchmarkResult("sums", tuple(problems)), folder / "results" / "trained")
            upload_directory(store, folder / "results", f"results/{seed}")
        evaluation = {"evaluation_uri": f"{store.uri}/results/{seed}"}
        evaluation["evaluation_sha256"] = read_manifest(store, f"results/{seed}").sha256
        return register(
            registry, name="sums", model_uri=f"{store.uri}/{model}", sha256=read_manifest(store, model).sha256,
            run_id="", provenance=evaluation if evaluated else {}, metrics={}, promote=promote, settings=settings,
        )  # fmt: skip

    return versions
