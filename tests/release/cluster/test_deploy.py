"""The champion in the cluster: made, updated, left alone, taken back, rolled back; and what is recorded of it."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.errors import ConfigError, LaunchError, ServingError
from fipo.release.ask import Question, ask
from fipo.release.deploy import deploy, follow_champion, page
from fipo.release.registry import champion, find, patiently, rollback, served, set_champion
from tests.present import present

from .conftest import pod_of

KINDS = ["Deployment", "InferenceService"]


@pytest.fixture
def config(registry, tmp_path):
    where = [f"run.directory={tmp_path}", f"tracking.uri={registry}", "registry.model_name=sums", "deploy.enabled=true"]
    return load_config("demo", [*where, "deploy.image=ghcr.io/fipo-rl/fipo:1", "deploy.patience_seconds=2"])


@pytest.fixture(params=KINDS)
def kind(request, cluster, role):
    cluster.kserve = request.param == "InferenceService"
    cluster.act_as(role)
    return request.param


@pytest.fixture
def plain(cluster, role):
    """No KServe."""
    cluster.act_as(role)


def changed(config, **settings):
    return config.model_copy(update={"deploy": config.deploy.model_copy(update=settings)})


def task_pod(image):
    metadata = {"name": "task", "labels": {}, "creationTimestamp": "2026-11-26T12:00:00Z"}
    containers = [{"name": "wait", "image": "argoexec"}, {"name": "main", "image": image}]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": {}}


def annotations(cluster, kind, name="sums"):
    return cluster.objects[f"{kind.lower()}s", name]["metadata"]["annotations"]


def test_the_champion_is_served_asked_and_recorded(cluster, kind, config, versions):
    model = versions(0)
    versions(1, promote=False)
    deployed = present(deploy(config))
    assert cluster.serving() == ["1"]
    url = "http://sums.team.svc" if kind == "Deployment" else "http://sums-predictor.team.svc.cluster.local"
    assert (deployed.url, deployed.kind, deployed.changed, deployed.answer) == (url, kind, True, "3")
    (asked,) = cluster.asked
    assert asked["messages"] == [{"role": "user", "content": "1 + 2 ="}], "the first problem of its own evaluation"
    assert (asked["model"], asked["temperature"]) == ("sums", 0.0)
    assert annotations(cluster, kind)["fipo.dev/sha256"] == model.sha256
    recorded = present(served(config.tracking_uri, "sums"))
    assert (recorded.version, recorded.served_as) == ("1", "team/sums")
    assert find(config.tracking_uri, "sums@served").version == "1"
    assert "served_at" not in recorded.provenance
    shown = page(config, deployed)
    assert "**sums version 1 is served, now.**" in shown and f"`{url}/v1`" in shown and "`1 + 2 =`" in shown


def test_the_registry_is_waited_for(cluster, plain, config, versions, mlflow_restarts):
    """A version that is served and not recorded would be lost to `fipo rollback`."""
    patiently(versions, 0)
    mlflow_restarts.clear()
    deploy(config)
    assert {"search_registered_models", "set_registered_model_alias"} <= mlflow_restarts
    assert present(served(config.tracking_uri, "sums")).version == "1"


def test_the_same_version_again_changes_nothing(cluster, kind, config, versions):
    versions(0)
    deploy(config)
    pods, before = dict(cluster.pods), dict(cluster.objects)
    deployed = present(deploy(config))
    assert deployed.changed is False and cluster.pods == pods
    assert {generation for _, generation in cluster.writes} == {1}
    assert cluster.objects == before
    assert "as before" in page(config, deployed)


def test_a_new_champion_replaces_the_one_before(cluster, kind, config, versions):
    versions(0)
    deploy(config)
    versions(1)
    assert present(deploy(config)).changed
    assert cluster.serving() == ["2"]
    assert present(served(config.tracking_uri, "sums")).version == "2"
    assert annotations(cluster, kind)["fipo.dev/version"] == "2"


def test_a_pod_that_was_evicted_before_is_not_waited_for(cluster, plain, config, versions):
    """Kubernetes leaves it where it is until somebody deletes it."""
    versions(0)
    deploy(config)
    (pod,) = cluster.pods.values()
    metadata = {**pod["metadata"], "name": f"{pod['metadata']['name'][:-1]}x"}
    cluster.pods[metadata["name"]] = {"metadata": metadata, "spec": {}, "status": {"phase": "Failed"}}
    versions(1)
    assert present(deploy(config)).served.version == "2"


def test_other_settings_are_another_rollout(cluster, plain, config, versions):
    versions(0)
    deploy(config)
    deploy(changed(config, memory="16Gi"))
    (pod,) = cluster.pods.values()
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "16Gi"


def test_a_version_that_never_starts_is_taken_back(cluster, kind, config, versions, capsys):
    versions(0)
    deploy(config)
    versions(1)
    first = cluster.objects[f"{kind.lower()}s", "sums"]
    cluster.breaks = lambda labels, spec: "" if labels == pod_of(first)[0] else "no safetensors model"
    event = {"reason": "FailedMount", "message": "no volume", "lastTimestamp": "2999-01-01T00:00:00Z"}
    others = ["sums-trainer-abc", "sums2", "sumsx-7d5b9c6f81-abcd1"]
    cluster.events = [{**event, "involvedObject": {"kind": "Pod", "name": "sums-7d5b9c6f82-abcd2"}}]
    cluster.events += [{**event, "reason": "Other", "involvedObject": {"kind": "Pod", "name": name}} for name in others]
    old = {**event, "reason": "Old", "lastTimestamp": "2020-01-01T00:00:00Z"}
    cluster.events.append({**old, "involvedObject": {"kind": "Pod", "name": "sums-7d5b9c6f82-abcd2"}})
    with pytest.raises(ServingError) as failure:
        deploy(config)
    message = str(failure.value)
    assert "version 2 of sums did not answer in 2 s (deploy.patience_seconds): 0 of 1 pods ready" in message
    assert "CrashLoopBackOff: no safetensors model" in message and "FailedMount: no volume (Pod)" in message
    assert "Other" not in message and "Old" not in message
    assert "its last lines:\n  loading\n  fipo: no safetensors model" in message
    assert message.endswith("version 1 is served again")
    assert cluster.serving() == ["1"] and len(cluster.pods) == 1
    assert annotations(cluster, kind)["fipo.dev/version"] == "1"
    assert present(served(config.tracking_uri, "sums")).version == "1"
    assert "[deploy] waiting: 0 of 1 pods ready; CrashLoopBackOff" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "answers 500: broken"),
        ({"choices": []}, "something else than a chat completion"),
        ({"choices": [{"message": {}}], "usage": {"completion_tokens": 0}}, "without a token"),
    ],
)
def test_a_version_that_is_ready_and_answers_nothing_is_taken_back(cluster, plain, config, versions, answer, words):
    versions(0)
    deploy(config)
    versions(1)
    good = cluster.answers
    cluster.answers = lambda pod, body: good(pod, body) if pod["served"] == "1" else answer
    with pytest.raises(ServingError, match=words):
        deploy(changed(config, patience_seconds=0.5))
    assert cluster.serving() == ["1"]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"nonsense\r\n\r\n"])
def test_an_answer_that_breaks_off_is_none(answer):
    class Broken(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(ServingError, match="does not answer"):
            ask(f"http://127.0.0.1:{server.server_port}", Question("m", "1 + 1 =", 1))


def test_a_version_that_takes_its_time_is_waited_for(cluster, plain, config, versions, capsys):
    versions(0)
    cluster.start, reads = (lambda pod: None), []

    def becomes_ready():
        reads.append(1)
        if len(reads) == 6:
            cluster.make_ready(*cluster.pods.values())

    cluster.on_read = becomes_ready
    assert present(deploy(config)).answer == "3"
    assert capsys.readouterr().out.count("waiting: 0 of 1 pods ready") == 1, "said once"


def test_the_first_version_that_fails_is_left_to_be_looked_at(cluster, plain, config, versions):
    versions(0)
    cluster.breaks = lambda labels, spec: "out of memory"
    with pytest.raises(ServingError, match="out of memory"):
        deploy(changed(config, patience_seconds=0.3))
    assert ("deployments", "sums") in cluster.objects
    assert served(config.tracking_uri, "sums") is None


def test_who_deploys_at_the_same_time_is_not_undone(cluster, plain, config, versions):
    versions(0)
    deploy(config)
    versions(1)
    cluster.start = lambda pod: None

    def another():
        one = cluster.objects["deployments", "sums"]
        if one["metadata"]["annotations"]["fipo.dev/version"] == "2":
            one["metadata"]["labels"]["fipo.dev/revision"] = "theirs"

    cluster.on_read = another
    writes = len(cluster.writes)
    with pytest.raises(ServingError, match="changed or deleted by someone else"):
        deploy(config)
    assert len(cluster.writes) == writes + 2, "nothing was put back"


def test_an_object_of_someone_else_is_left_alone(cluster, plain, config, versions):
    versions(0)
    cluster.objects["deployments", "sums"] = {"kind": "Deployment", "metadata": {"name": "sums"}, "spec": {}}
    with pytest.raises(ConfigError, match=r"deploy\.name.*someone else's"):
        deploy(config)
    assert cluster.writes == []


def test_an_object_that_serves_another_model_is_left_alone(cluster, plain, config, versions):
    """`fipo-demo` and `fipo.demo` are one name to Kubernetes."""
    versions(0)
    deploy(config)
    (kept,) = [one for one in cluster.objects.values() if one["kind"] == "Deployment"]
    record = kept["metadata"]["annotations"]
    record["fipo.dev/served"] = record["fipo.dev/served"].replace('"model": "sums"', '"model": "SUMS"')
    cluster.writes.clear()
    with pytest.raises(ConfigError, match=r"deploy\.name: must be of an object that serves sums.*serves SUMS"):
        deploy(config)
    assert cluster.writes == []


def test_a_name_that_kserve_makes_nothing_of_is_refused(cluster, role, config, versions):
    """Seen with v0.20: the webhooks take it, the controller complains in an event, and no pod ever comes."""
    cluster.act_as(role)
    versions(0)
    name = "s" * (63 - len("-predictor-team"))
    cluster.kserve = True
    with pytest.raises(
        ConfigError, match=rf"deploy\.name: must have at most {len(name)} characters .* team, .* got 's"
    ):
        deploy(changed(config, name=f"{name}s"))
    assert present(deploy(changed(config, name=name))).kind == "InferenceService"
    cluster.kserve = False
    assert present(deploy(changed(config, name=f"{name}s"))).kind == "Deployment"


def test_a_deployment_stays_one_when_kserve_is_installed_later(cluster, role, config, versions):
    cluster.act_as(role)
    versions(0)
    deploy(config)
    cluster.kserve = True
    assert present(deploy(config)).kind == "Deployment"


def test_without_a_champion_nothing_is_served(cluster, plain, config, versions):
    versions(0, promote=False)
    assert deploy(config) is None
    assert cluster.objects == {}
    assert "sums has no champion" in page(config, None)


def test_weights_on_a_disk_are_refused_before_the_cluster_is_asked(cluster, config, small, tmp_path):
    from fipo.release.registry import register
    from fipo.storage import open_store, upload_directory

    store = open_store((tmp_path / "objects").as_uri())
    sha256 = upload_directory(store, small(), "model").sha256
    register(
        config.tracking_uri, name="sums", model_uri=f"{store.uri}/model", sha256=sha256, run_id="", provenance={},
        metrics={}, promote=True,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"storage\.uri.*s3://"):
        deploy(config)
    assert not cluster.used


def test_the_image_is_the_tasks_own(cluster, plain, config, versions, monkeypatch):
    versions(0)
    with pytest.raises(ConfigError, match=r"deploy\.image"):
        deploy(changed(config, image=""))
    monkeypatch.setenv("KFP_POD_NAME", "task")
    cluster.pods["task"] = task_pod("fipo:2")
    assert present(deploy(changed(config, image=""))).served.image == "fipo:2"


def test_rollback_moves_what_is_served_with_the_alias(cluster, kind, config, versions, capsys):
    versions(0)
    deploy(changed(config, memory="16Gi"))
    versions(1)
    deploy(changed(config, memory="16Gi"))
    main(["rollback", "sums", "--set", f"tracking.uri={config.tracking_uri}"])
    said = capsys.readouterr().out
    assert "sums: version 1 is champion" in said and "sums: version 1 is served at http://sums" in said
    assert cluster.serving() == ["1"]
    assert present(champion(config.tracking_uri, "sums")).version == "1"
    assert present(served(config.tracking_uri, "sums")).version == "1"
    (pod,) = cluster.pods.values()
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "16Gi", "served in the same way"


def test_rollback_where_nothing_is_served_asks_no_cluster(cluster, config, versions):
    versions(0)
    versions(1)
    main(["rollback", "sums", "--set", f"tracking.uri={config.tracking_uri}"])
    assert not cluster.used and present(champion(config.tracking_uri, "sums")).version == "1"


@pytest.mark.parametrize("how", ["forbidden", "gone", "broken"])
def test_rollback_that_cannot_move_it_says_what_is_served(cluster, plain, config, versions, how):
    versions(0)
    deploy(config)
    versions(1)
    deploy(changed(config, patience_seconds=0.3))
    if how == "forbidden":
        cluster.granted = set()
    elif how == "gone":
        cluster.objects.clear()
    else:
        cluster.breaks = lambda labels, spec: "broken"
    model = rollback(config.tracking_uri, "sums")
    words = "version 1 is champion, but team/sums in the cluster still serves version 2"
    with pytest.raises(ServingError, match=words):
        follow_champion(config, model)
    assert present(served(config.tracking_uri, "sums")).version == "2"


def test_outside_the_cluster_readiness_has_to_do(cluster, plain, config, versions, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    versions(0)
    deployed = present(deploy(config))
    assert (deployed.problem, deployed.answer, cluster.asked) == ("", "", [])
    assert "cannot be reached from here" in page(config, deployed)


def test_a_version_without_an_evaluation_is_served_when_it_is_ready(cluster, plain, config, versions):
    versions(0, evaluated=False)
    assert present(deploy(config)).problem == ""


def test_what_a_model_says_does_not_break_the_page(cluster, plain, config, versions):
    versions(0)
    text = "3 |\n`x` " + "y" * 1000
    cluster.answers = lambda pod, body: {
        "choices": [{"message": {"content": text}}],
        "usage": {"completion_tokens": 9},
    }
    (line,) = [line for line in page(config, deploy(config)).splitlines() if "answered" in line]
    assert line.startswith("| answered | `3 \\| 'x' yyy") and len(line) < 350


def test_the_role_grants_no_more_than_is_used(cluster, role, config, versions, monkeypatch):
    cluster.act_as(role)
    monkeypatch.setenv("KFP_POD_NAME", "task")
    cluster.pods["task"] = task_pod("fipo:2")
    for kserve, name in [(False, "plain"), (True, "kserve")]:
        cluster.kserve = kserve
        versions(0)
        deploy(changed(config, name=name, image=""))
    versions(1)
    cluster.breaks = lambda labels, spec: "broken"
    with pytest.raises(ServingError):
        deploy(changed(config, name="kserve", patience_seconds=0.3))
    assert cluster.used == cluster.granted


@pytest.mark.parametrize("missing", ["get", "create", "patch", "list"])
def test_a_verb_that_is_missing_is_named(cluster, role, config, versions, missing):
    cluster.act_as(role)
    versions(0)
    cluster.granted = {permission for permission in cluster.granted if permission[0] != missing}
    with pytest.raises(LaunchError, match=f"cannot {missing}"):
        deploy(config)


def test_the_registry_remembers_when_each_version_was_served(cluster, role, config, versions):
    from fipo.tracking.client import connect

    cluster.act_as(role)
    versions(0)
    deploy(config)
    versions(1)
    deploy(config)
    set_champion(config.tracking_uri, "sums", "1")
    tags = [connect(config.tracking_uri).get_model_version("sums", version).tags for version in "12"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert [one["served_at"][:10] for one in tags] == [today, today]
    assert {one["served_as"] for one in tags} == {"team/sums"}
