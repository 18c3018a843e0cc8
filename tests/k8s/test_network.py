"""Who may reach whom under the network policies, as Kubernetes judges them.

https://kubernetes.io/docs/concepts/services-networking/network-policies: a pod that no policy selects is free; one that
is selected may do what some policy of its allows, and both ends must allow it.
"""

from ipaddress import ip_address, ip_network

import pytest

import fipo
from tests.k8s.test_manifests import load, needs_kustomize, pod_specs

TASK = {"pipelines.kubeflow.org/v2_component": "true"}  # Kubeflow's label, of drivers too
KUBEFLOW, TRAINER, DNS, ISTIO = (
    {"kubernetes.io/metadata.name": name} for name in ("kubeflow", "kubeflow-system", "kube-system", "istio-system")
)
VERSION = "-" + fipo.__version__.replace(".", "-")  # of a runtime's name
API_SERVER, HUB, STORE, DATABASE = "10.96.0.1", "203.0.113.1", "203.0.113.2", "203.0.113.3"
NODE_DNS = "169.254.20.10"  # NodeLocal DNSCache
METADATA = "169.254.169.254"  # of the node, and with them the node's own rights; GKE's stands there instead
METADATA_6 = "fd00:ec2::254"  # Amazon's
POD_IDENTITY = "169.254.170.23"  # EKS's agent


@pytest.fixture
def network(request):
    return Network(load(request.param))


class Network:
    """The pods of an overlay and its policies."""

    def __init__(self, manifests):
        self.policies = [item["spec"] for item in manifests if item["kind"] == "NetworkPolicy"]
        self.labels = {"task": TASK}
        for where, labels, _ in pod_specs(manifests):
            self.labels[where.split()[1].removesuffix(VERSION)] = labels

    def reaches(self, source, target, port):
        """A pod by its name, pods of another namespace by its labels, or a host by its address."""
        ours = [end for end in (source, target) if end in self.labels]
        assert ours, "one end is in the namespace"
        out = source not in self.labels or self._allows("egress", "to", source, target, port)
        return out and (target not in self.labels or self._allows("ingress", "from", target, source, port))

    def _allows(self, direction, peers, pod, other, port):
        mine = [
            policy
            for policy in self.policies
            if direction.capitalize() in policy["policyTypes"] and _selects(policy["podSelector"], self.labels[pod])
        ]
        rules = [rule for policy in mine for rule in policy.get(direction, [])]
        return not mine or any(
            (peers not in rule or any(self._is(peer, other) for peer in rule[peers]))
            and ("ports" not in rule or port in {entry["port"] for entry in rule["ports"]})
            for rule in rules
        )

    def _is(self, peer, other):
        if "ipBlock" in peer:
            return (
                isinstance(other, str)
                and (other[0].isdigit() or ":" in other)
                and ip_address(other) in ip_network(peer["ipBlock"]["cidr"])
            )
        if "namespaceSelector" in peer:
            return isinstance(other, frozenset) and _selects(peer["namespaceSelector"], dict(other))
        return other in self.labels and _selects(peer["podSelector"], self.labels[other])


def _selects(selector, labels):
    return selector.get("matchLabels", {}).items() <= labels.items()


def namespace(labels):
    return frozenset(labels.items())


NEEDED = [
    ("task", API_SERVER, 443),  # to make TrainJobs and to read their pods and events
    ("task", API_SERVER, 6443),
    ("task", namespace(KUBEFLOW), 8887),
    ("task", namespace(KUBEFLOW), 8888),
    ("task", "mlflow", 5000),
    ("task", HUB, 443),
    ("fipo", "fipo", 29500),  # torchrun, and NCCL on any port
    ("fipo", "mlflow", 5000),
    ("fipo", HUB, 443),
    ("fipo", namespace(TRAINER), 10443),
    ("fipo-reaper", API_SERVER, 443),
    ("fipo-reaper", "mlflow", 5000),
    (namespace(ISTIO), "mlflow", 5000),
    *((pod, namespace(DNS), 53) for pod in ("fipo", "mlflow", "fipo-reaper")),
    *((pod, NODE_DNS, 53) for pod in ("fipo", "mlflow", "fipo-reaper")),
]
OWN = [
    ("task", STORE, 443),
    ("fipo", STORE, 443),
    ("mlflow", STORE, 443),
    ("mlflow", DATABASE, 5432),  # its tables, which an init container of the pod makes
    ("fipo", "fipo-rollouts", 8000),
    ("task", namespace(DNS), 53),
]
LOCAL = [
    ("task", "fipo-s3", 9000),
    ("fipo", "fipo-s3", 9000),
    ("mlflow", "fipo-s3", 9000),
    ("mlflow", "postgres", 5432),
]


@pytest.mark.parametrize(
    ("network", "needed"), [("gpu", OWN), ("prod", OWN), ("local", LOCAL)], indirect=["network"], ids=str
)
def test_everybody_reaches_what_they_need(network, needed):
    for source, target, port in [*NEEDED, *needed]:
        assert network.reaches(source, target, port), f"{source} -> {target}:{port}"


SIX = {API_SERVER: "fd00:96::1", HUB: "2001:db8::1", STORE: "2001:db8::2", DATABASE: "2001:db8::3"}


@pytest.mark.parametrize(
    ("network", "needed"), [("gpu", OWN), ("prod", OWN), ("local", [])], indirect=["network"], ids=str
)
def test_where_addresses_are_of_ipv6_too(network, needed):
    for source, target, port in [*NEEDED, *needed]:
        if target in SIX:
            assert network.reaches(source, SIX[target], port), f"{source} -> {SIX[target]}:{port}"


@pytest.mark.parametrize("network", ["gpu", "prod"], indirect=True)
def test_in_a_namespace_of_its_own_nobody_reaches_more(network):
    network.labels["stranger"] = {"app": "notebook"}
    for source, target, port in [
        ("stranger", "mlflow", 5000),
        ("stranger", HUB, 443),
        ("task", "fipo", 29500),
        ("task", "fipo-rollouts", 8000),
        ("fipo", API_SERVER, 6443),
        ("mlflow", "fipo", 29500),
        (namespace(KUBEFLOW), "mlflow", 5000),
        *(
            (pod, address, 80)
            for pod in ("task", "fipo", "mlflow", "fipo-reaper")
            for address in (METADATA, METADATA_6)
        ),
        ("task", NODE_DNS, 80),
    ]:
        assert not network.reaches(source, target, port), f"{source} -> {target}:{port}"


@pytest.mark.parametrize("network", ["local"], indirect=True)
def test_on_one_machine_databases_and_files_are_closed(network):
    network.labels["stranger"] = {"app": "notebook"}
    for source, target, port in [
        ("task", "postgres", 5432),
        ("stranger", "fipo-s3", 9000),
        ("stranger", "mlflow", 5000),
    ]:
        assert not network.reaches(source, target, port), f"{source} -> {target}:{port}"
    assert network.reaches("stranger", HUB, 443), "Kubeflow's own pods are not ours to close"


@needs_kustomize
@pytest.mark.parametrize(
    ("network", "opened", "closed"),
    [
        ("gpu+serving+identity-eks", [(POD_IDENTITY, 80), ("fd00:ec2::23", 80)], [(METADATA, 80)]),
        ("gpu+serving+identity-gke", [(METADATA, 80), ("169.254.169.252", 988)], [(POD_IDENTITY, 80)]),
        ("gpu+serving+identity-aks", [], [(METADATA, 80), (POD_IDENTITY, 80)]),
    ],
    indirect=["network"],
)
def test_who_has_an_identity_of_the_cloud_may_ask_for_it_and_nobody_else(network, opened, closed):
    network.labels |= {"server": {"app.kubernetes.io/component": "serving"}, "stranger": {"app": "notebook"}}
    for address, port in opened:
        assert all(network.reaches(pod, address, port) for pod in ("task", "fipo", "mlflow", "server")), address
        assert not any(network.reaches(pod, address, port) for pod in ("fipo-reaper", "stranger")), address
    for address, port in closed:
        assert not any(network.reaches(pod, address, port) for pod in ("task", "fipo", "mlflow", "server")), address
