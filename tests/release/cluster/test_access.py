"""The component `serving`: its role, its account and its network policies."""

import kubernetes_validate

from fipo.config import Deploy
from fipo.release.manifests import PORT, Served
from fipo.release.registry import RegisteredModel

from .conftest import KUBERNETES, pod_of


def named(manifests, kind, name):
    (found,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def labels():
    model = RegisteredModel("sums", "1", "s3://fipo/model", "ab" * 32, (), {}, {})
    return pod_of(Served.of(model, Deploy(), "fipo:1").manifests("Deployment")[-1])[0]


def test_what_the_component_adds_obeys_the_schemas(deployer):
    added = [one for one in deployer if one["metadata"]["name"] in ("fipo-deployer", "fipo-server", "fipo-serving")]
    assert len(added) == 6, "account, role, binding, network policy; the policy of servers and its binding"
    for manifest in added:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_role_reads_no_secret_and_deletes_nothing(role):
    granted = {(verb, name) for rule in role["rules"] for verb in rule["verbs"] for name in rule["resources"]}
    assert not {name for _, name in granted} & {"secrets", "configmaps", "pods/exec"}
    assert {verb for verb, _ in granted} == {"get", "list", "create", "patch"}


def test_servers_are_reached_by_tasks_and_reach_the_object_store_alone(deployer):
    policy = named(deployer, "NetworkPolicy", "fipo-serving")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels().items()
    (ingress,) = policy["ingress"]
    assert [port["port"] for port in ingress["ports"]] == [PORT]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {443, 9000}
    tasks = named(deployer, "NetworkPolicy", "fipo-tasks")["spec"]
    assert tasks["podSelector"] in [source.get("podSelector") for source in ingress["from"]]
    to_servers = [rule for rule in tasks["egress"] if rule["to"][0].get("podSelector") == policy["podSelector"]]
    assert [port["port"] for rule in to_servers for port in rule["ports"]] == [PORT]


def test_the_account_of_the_pods_exists(deployer):
    account = named(deployer, "ServiceAccount", "fipo-server")
    assert account["automountServiceAccountToken"] is False
