"""`fipo cluster check` on a healthy cluster made of the rendered manifests, and with each fault alone."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from fipo.cli import main
from fipo.findings import failed
from fipo.launch.check import access, check_cluster
from tests.k8s.conftest import BREAKS_OFF
from tests.k8s.whole_cluster import RENDERED, STORE, Objects, apply, install_kubeflow, install_ours


@pytest.fixture
def shared(whole):
    """A shared Kubeflow with a profile `fipo`, to which the overlay gpu was applied, with gang scheduling."""
    objects = Objects(whole, "fipo")
    install_kubeflow(objects, multi_user=True)
    apply(objects, "gpu")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    objects.put("/api/v1/namespaces/fipo", {"metadata": {"name": "fipo", "labels": labels}})
    secrets = {"fipo": STORE, "mlflow": ["backend_store_uri", "postgres_password"], "fipo-rollouts": ["token"]}
    install_ours(objects, "default-editor", secrets)
    for path, manifest in whole.objects.items():
        if "/trainingruntimes/" in path:
            manifest["spec"]["podGroupPolicy"] = {"coscheduling": {}}
    return objects


def look(objects, *overrides, recipe="demo", namespace="fipo", host="pipeline"):
    host = f"{objects.server.url}/{host}" if host else ""
    return check_cluster(namespace=namespace, recipe=recipe, overrides=overrides, host=host)


def told(findings):
    return "\n".join(f"{entry.check}: {entry.status}: {entry.found} | {entry.remedy}" for entry in findings)


def test_a_shared_cluster_with_all_in_place_passes(shared):
    findings = look(shared)
    assert {finding.status for finding in findings} == {"ok"}, told(findings)
    found = told(findings)
    for words in ("v1.36.1", "(v2.3.0)", "2.17.0, several users", "Pod Security restricted", "bound", "podgroups"):
        assert words in found
    assert "aGlkZGVu" not in found and "hidden" not in found, "secrets are looked at by name"


def test_one_machine_with_all_in_place_passes(whole):
    objects = Objects(whole, "kubeflow")
    install_kubeflow(objects, multi_user=False)
    apply(objects, "local")
    objects.put("/api/v1/namespaces/kubeflow", {"metadata": {"name": "kubeflow", "labels": {}}})
    objects.put(objects.path("v1", "services", "ml-pipeline"), {"metadata": {"name": "ml-pipeline"}})
    install_ours(objects, "pipeline-runner", {"fipo": STORE, "mlflow": ["backend_store_uri", "postgres_password"]})
    claim = objects.get("persistentvolumeclaims", "fipo-runs")
    claim["spec"]["storageClassName"], claim["status"]["phase"] = "standard", "Pending"
    first = {"metadata": {"name": "standard"}, "volumeBindingMode": "WaitForFirstConsumer"}
    objects.put("/apis/storage.k8s.io/v1/storageclasses/standard", first)
    findings = look(objects, namespace="")
    assert not failed(findings), told(findings)
    (warning,) = [finding for finding in findings if finding.status == "warning"]
    assert "enforces no Pod Security level" in warning.found
    assert "binds with the first pod" in told(findings)


def without(resource, name):
    return lambda objects: objects.drop(resource, name)


def change(resource, name, **fields):
    def fault(objects):
        merge(objects.get(resource, name), fields)

    return fault


def merge(item, fields):
    for key, value in fields.items():
        if isinstance(value, dict) and isinstance(item.get(key), dict):
            merge(item[key], value)
        else:
            item[key] = value


def served(version, kinds):
    return lambda objects: objects.put(f"/apis/{version}", {"resources": [{"name": kind} for kind in kinds]})


def not_installed(group):
    def fault(objects):
        for path in [path for path in objects.server.objects if path.startswith(f"/apis/{group}")]:
            if "namespaces" not in path:
                del objects.server.objects[path]

    return fault


def an_older(group, version):
    def fault(objects):
        not_installed(group)(objects)
        objects.put(f"/apis/{group}", {"versions": [{"version": version}]})

    return fault


def settings(line):
    def fault(objects):
        data = objects.get("configmaps", "fipo")["data"]
        data["settings"] += f"{line}\n"

    return fault


def no_endpoint(objects):
    objects.get("endpointslices", "jobset-webhook-service-x")["endpoints"][0]["conditions"]["ready"] = False


def no_certificate(objects):
    configuration = objects.get("mutatingwebhookconfigurations", "jobset.x-k8s.io")
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = ""


def no_servers(objects):
    (name,) = [path for path in objects.server.objects if "/trainingruntimes/fipo-rollouts" in path]
    jobs = objects.server.objects[name]["spec"]["template"]["spec"]["replicatedJobs"]
    jobs[:] = [job for job in jobs if job["name"] == "node"]
    settings("rollout.engine=served")(objects)


def no_runtime(objects):
    for path in [path for path in objects.server.objects if "/trainingruntimes/" in path]:
        del objects.server.objects[path]


def no_key(secret, key):
    return lambda objects: objects.get("secrets", secret)["data"].pop(key)


def bound(role, namespace):
    def fault(objects):
        for subject in objects.get("rolebindings", role)["subjects"]:
            subject["namespace"] = namespace

    return fault


def pending(storage_class):
    def fault(objects):
        claim = objects.get("persistentvolumeclaims", "fipo-runs")
        claim["status"]["phase"] = "Pending"
        if storage_class:
            claim["spec"]["storageClassName"] = storage_class

    return fault


def used_up(name, amount):
    def fault(objects):
        status = objects.get("resourcequotas", "fipo")["status"]
        status["hard"][name] = status["used"][name] = amount

    return fault


def failing_pod(objects):
    labels = {"app.kubernetes.io/part-of": "fipo", "app.kubernetes.io/name": "mlflow"}
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "mlflow" not found'}
    status = {"phase": "Pending", "containerStatuses": [{"name": "mlflow", "state": {"waiting": waiting}}]}
    objects.put(
        objects.path("v1", "pods", "mlflow-1"), {"metadata": {"name": "mlflow-1", "labels": labels}, "status": status}
    )
    event = {"type": "Warning", "reason": "Failed", "message": 'Error: secret "mlflow" not found', "count": 9}
    event |= {"involvedObject": {"kind": "Pod", "name": "mlflow-1"}, "lastTimestamp": "2026-11-23T12:00:00Z"}
    objects.put(
        objects.path("v1", "events", "mlflow-1.0"),
        {"metadata": {"name": "mlflow-1.0", "creationTimestamp": ""}, **event},
    )


def unready(objects):
    objects.get("deployments", "mlflow")["status"] = {"availableReplicas": 0}


def one_user(objects):
    objects.server.objects["/pipeline/apis/v2beta1/healthz"]["multi_user"] = False


def not_answering(objects):
    objects.server.objects["/pipeline/apis/v2beta1/healthz"]["apiServerReady"] = False


FAULTS = {
    "trainer not installed": (
        not_installed("trainer.kubeflow.org"),
        "trainer.kubeflow.org: failed: served: nothing",
        "overlays/manager?ref=v2.3.0",
    ),
    "an older trainer": (
        an_older("trainer.kubeflow.org", "v2alpha1"),
        "served: v2alpha1; needed: v1alpha1",
        "ref=v2.3.0",
    ),
    "no runtimes' kind": (
        served("trainer.kubeflow.org/v1alpha1", ["trainjobs"]),
        "v1alpha1 lacks trainingruntimes",
        "ref=v2.3.0",
    ),
    "jobset not installed": (not_installed("jobset.x-k8s.io"), "jobset.x-k8s.io: failed", "ref=v2.3.0"),
    "no workflows": (not_installed("argoproj.io"), "argoproj.io: failed", "install Kubeflow Pipelines"),
    "no coscheduling": (not_installed("scheduling.x-k8s.io"), "scheduling.x-k8s.io: failed", "components/coscheduling"),
    "a webhook starts": (no_endpoint, "jobset-webhook-service has no ready endpoint", "wait --for=condition=Available"),
    "a webhook has no certificate": (no_certificate, "certificate is not there yet", "wait --for=condition=Available"),
    "pipelines do not answer": (not_answering, "does not answer its UI", "--namespace kubeflow wait"),
    "pipelines have one user": (one_user, "no run will be in fipo", "--namespace kubeflow"),
    "no namespace": (
        lambda objects: objects.server.objects.pop("/api/v1/namespaces/fipo"),
        "fipo does not exist",
        "kubectl apply",
    ),
    "no config map": (without("configmaps", "fipo"), "config map fipo: failed: does not exist", "kubectl apply"),
    "a wrong setting": (settings("trainjob.node=3"), "trainjob.node: no such setting", "edit configmap fipo"),
    "no runtime": (no_runtime, "runtime fipo", "names carry fipo's version"),
    "a runtime without servers": (no_servers, "no replicated job rollout", "kubectl get trainingruntimes"),
    "no secret of the tasks": (
        without("secrets", "fipo"),
        "secret fipo: failed: does not exist",
        "create secret generic fipo --from-literal=AWS_ACCESS_KEY_ID=...",
    ),
    "a key of the tasks is missing": (
        no_key("fipo", "AWS_SECRET_ACCESS_KEY"),
        "lacks AWS_SECRET_ACCESS_KEY",
        "edit secret fipo",
    ),
    "a key of MLflow is missing": (
        no_key("mlflow", "backend_store_uri"),
        "secret mlflow: failed: lacks backend_store_uri",
        "edit secret mlflow",
    ),
    "no volume": (
        without("persistentvolumeclaims", "fipo-runs"),
        "volume fipo-runs: failed: does not exist",
        "kubectl apply",
    ),
    "no default storage class": (pending(""), "no storage class", "k8s/base/storage.yaml (shared)"),
    "another storage class": (pending("fast"), "no storage class 'fast'", "k8s/base/storage.yaml (shared)"),
    "a volume that is not bound": (pending("shared"), "not bound, storage class shared", "describe pvc fipo-runs"),
    "no role": (without("rolebindings", "fipo-launcher"), "no RoleBinding fipo-launcher", "kubectl apply"),
    "no account": (
        without("serviceaccounts", "default-editor"),
        "no service account fipo/default-editor",
        "pipeline-runner",
    ),
    "no reaper's role": (without("rolebindings", "fipo-reaper"), "no RoleBinding fipo-reaper", "kubectl apply"),
    "an account of another namespace": (
        bound("fipo-launcher", "research"),
        "RoleBinding fipo-launcher is for research/default-editor; pods of fipo",
        "namespace: fipo in the overlay",
    ),
    "a reaper of another namespace": (
        bound("fipo-reaper", "research"),
        "RoleBinding fipo-reaper is for research/fipo-reaper; pods of fipo",
        "namespace: fipo in the overlay",
    ),
    "an older reaper's role": (
        lambda objects: objects.server.denied.add("list trainjobs"),
        "fipo-reaper may not list trainjobs",
        "kubectl apply",
    ),
    "an older role": (
        lambda objects: objects.server.denied.add("list events"),
        "default-editor may not list events",
        "kubectl apply",
    ),
    "no MLflow": (without("deployments", "mlflow"), "no Deployment mlflow", "kubectl apply"),
    "MLflow is not ready": (unready, "0 of 1 available", "rollout status deployment/mlflow"),
    "a pod does not start": (failing_pod, 'Error: secret "mlflow" not found', "make the secret"),
    "no queue of Kueue": (settings("trainjob.queue=research"), "Kueue is not installed", "trainjob.queue="),
    "no pods left": (used_up("pods", "200"), "pods: the job needs 1, 0 of 200 are left: 1 too little", "quota.yaml"),
}


@pytest.mark.parametrize(("fault", "found", "remedy"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_found_with_its_remedy(shared, fault, found, remedy):
    fault(shared)
    findings = [finding for finding in look(shared) if finding.status == "failed"]
    lines = told(findings).splitlines()
    assert any(found in line and remedy in line for line in lines), lines


def test_webhooks_outside_the_cluster_are_not_looked_at(shared):
    for kind in ("validating", "mutating"):
        for hook in shared.get(f"{kind}webhookconfigurations", "jobset.x-k8s.io")["webhooks"]:
            hook["clientConfig"] = {"url": "https://hooks.example.com/jobset"}
    assert "webhooks of jobset.x-k8s.io: warning: not looked at: outside the cluster, https://hooks" in told(
        look(shared)
    )


def test_no_webhooks_at_all(shared):
    for kind in ("validating", "mutating"):
        shared.drop(f"{kind}webhookconfigurations", "trainer.kubeflow.org")
    assert "webhooks of trainer.kubeflow.org: failed: none is registered" in told(look(shared))


def test_a_queue_that_is_there_passes(shared):
    settings("trainjob.queue=research")(shared)
    shared.put("/apis/kueue.x-k8s.io", {"preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta2"}})
    assert "no LocalQueue research" in told(look(shared))
    active = {"type": "Active", "status": "True"}
    path = shared.path("kueue.x-k8s.io/v1beta2", "localqueues", "research")
    shared.put(path, {"status": {"conditions": [active]}})
    assert "queue: ok: LocalQueue research" in told(look(shared))
    active |= {"status": "False", "message": "ClusterQueue is inactive"}
    assert "queue: failed: research: ClusterQueue is inactive" in told(look(shared))


def test_the_papers_job_does_not_fit_into_too_small_a_quota(shared):
    """The quota that was shipped: 5 of 16 pods of 1500Gi fit, and nobody said a word."""
    hard = {"requests.memory": "8Ti", "requests.nvidia.com/gpu": "64", "requests.cpu": "2048", "pods": "200"}
    status = {"hard": hard, "used": {**dict.fromkeys(hard, "0"), "requests.memory": "1Ti"}}
    shared.get("resourcequotas", "fipo")["status"] = status
    (quota,) = [line for line in told(look(shared, recipe="paper-32b")).splitlines() if line.startswith("quota")]
    assert "requests.memory: the job needs 23.44Ti, 7Ti of 8Ti are left: 16.44Ti too little" in quota
    assert "requests.nvidia.com/gpu: the job needs 128, 64 of 64 are left: 64 too little" in quota
    assert "cpu: the job" not in quota, "that is enough"
    fits = look(shared, "trainjob.nodes=4", recipe="paper-32b")
    assert "quota fipo: ok" in told(fits)


def test_rollout_servers_count_too(shared):
    hard = {"pods": "5"}
    shared.get("resourcequotas", "fipo")["status"] = {"hard": hard, "used": {"pods": "0"}}
    assert "quota fipo: ok" in told(look(shared, "trainjob.nodes=4"))
    served = ["rollout.engine=served", "trainjob.nodes=4"]
    assert "the job needs 6, 5 of 5 are left: 1 too little" in told(look(shared, *served))


def test_pods_with_an_identity_of_the_cloud_need_no_keys(shared):
    shared.get("secrets", "fipo")["data"] = {"HF_TOKEN": "aGlkZGVu"}
    assert "secret fipo: failed: lacks AWS_ACCESS_KEY_ID" in told(look(shared))
    shared.get("serviceaccounts", "fipo-trainer")["metadata"]["annotations"] = {"fipo.dev/identity": "eks"}
    assert not failed(look(shared)), told(look(shared))


def test_several_nodes_need_a_volume_that_they_can_share(shared):
    shared.get("persistentvolumeclaims", "fipo-runs")["spec"]["accessModes"] = ["ReadWriteOnce"]
    assert not failed(look(shared))
    assert "ReadWriteOnce, and a job has 2 nodes | accessModes: [ReadWriteMany]" in told(
        look(shared, "trainjob.nodes=2")
    )


HIDDEN = {
    "/apis/admissionregistration.k8s.io": "webhooks",
    "/api/v1/namespaces/fipo/secrets": "secrets",
    "/apis/authorization.k8s.io": "permissions",
    "/api/v1/namespaces/fipo/resourcequotas": "quota",
    "/apis/rbac.authorization.k8s.io": "permissions",
}


@pytest.mark.parametrize(("path", "check"), HIDDEN.items())
def test_who_may_not_look_is_warned(shared, path, check):
    shared.server.hidden.add(path)
    findings = look(shared)
    (line,) = [finding for finding in findings if finding.status != "ok"]
    assert (line.check, line.status) == (check, "warning") and path in line.found and "administrator" in line.remedy


def test_pipelines_that_nobody_named_are_not_looked_at(shared, monkeypatch):
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    assert "Kubeflow Pipelines: warning: not looked at | give --host URL" in told(look(shared, host=""))
    assert "failed: " in told(look(shared, host="nowhere")) and "KFP_TOKEN" in told(look(shared, host="nowhere"))


def test_the_token_goes_nowhere_but_to_the_host(shared, monkeypatch):
    """A login answers with the way to its own page, on another host."""
    asked = []

    class Login(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Authorization"))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/dex?state=secret")
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("KFP_TOKEN", "token")
    with HTTPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"http://localhost:{server.server_port}"
        found = told(check_cluster(namespace="fipo", recipe="demo", host=host))
        server.shutdown()
    assert asked == ["Bearer token"]
    assert "answers 302" in found and "behind a login" in found and "state=secret" not in found


def test_a_namespace_must_be_given_where_kubeflow_has_several_users(shared):
    assert "several users: give --namespace PROFILE" in told(look(Objects(shared.server, "kubeflow"), namespace=""))


@pytest.mark.parametrize("name", access.NEEDED)
def test_the_permissions_are_those_of_the_role(name):
    manifests = yaml.safe_load_all((RENDERED / "prod.yaml").read_text())
    (role,) = [item for item in manifests if item["kind"] == "Role" and item["metadata"]["name"] == name]
    granted = {
        (group, resource): tuple(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == access.NEEDED[name]


def test_the_command_prints_a_line_a_check_and_ends_with_1_where_one_failed(shared, capsys):
    arguments = ["cluster", "check", "--namespace", "fipo", "--host", f"{shared.server.url}/pipeline"]
    main(arguments)
    table = capsys.readouterr().out
    assert "Pod Security restricted" in table and "failed" not in table
    shared.drop("configmaps", "fipo")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1 and not answer["ok"]
    assert {"check", "status", "found", "remedy"} == answer["checks"][0].keys()


def test_without_a_cluster_the_command_says_so(tmp_path):
    command = [sys.executable, "-m", "fipo.cli", "cluster", "check"]
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    none = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert none.returncode == 1 and "point KUBECONFIG to its file" in none.stderr


def test_a_cluster_that_does_not_answer_ends_the_check(whole):
    whole.close()
    (finding,) = check_cluster()
    assert finding.status == "failed" and "cannot be reached" in finding.found and "KUBECONFIG" in finding.remedy


def test_answers_that_break_off_are_findings(whole):
    whole.faults = [BREAKS_OFF] * 1000
    findings = check_cluster()
    assert failed(findings) and "Connection broken" in findings[0].found
