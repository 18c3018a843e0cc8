"""What each account may do, as a real API server's RBAC answers, and in acting as it."""

import itertools

import pytest

from fipo.launch.check.access import NEEDED
from tests.apiserver.platform import make_namespace, moved
from tests.k8s.test_manifests import load

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
OURS = ("default-editor", "fipo-trainer", "fipo-mlflow", "fipo-reaper", "fipo-server")
KINDS = {
    "trainjobs.trainer.kubeflow.org", "trainjobs.trainer.kubeflow.org/status", "trainingruntimes.trainer.kubeflow.org",
    "workflows.argoproj.io", "inferenceservices.serving.kserve.io", "deployments.apps", "statefulsets.apps",
    "jobs.batch", "cronjobs.batch", "pods", "pods/log", "pods/exec", "pods/attach", "pods/portforward",
    "pods/eviction", "secrets",
    "configmaps", "events", "services", "serviceaccounts", "serviceaccounts/token", "persistentvolumeclaims",
    "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "networkpolicies.networking.k8s.io",
    "resourcequotas", "limitranges",
}  # fmt: skip
LAUNCHER = {
    (verb, f"{name}.{group}".rstrip(".") if "/" not in name else name)
    for (group, name), verbs in NEEDED["fipo-launcher"].items()
    for verb in verbs
}
DEPLOYER = {
    *itertools.product(("get", "create", "patch"), ("inferenceservices.serving.kserve.io", "deployments.apps")),
    *itertools.product(("create", "patch"), ("services",)),
}
REAPER = {
    ("list", "trainjobs.trainer.kubeflow.org"), ("delete", "trainjobs.trainer.kubeflow.org"),
    ("get", "workflows.argoproj.io"), ("list", "workflows.argoproj.io"), ("get", "pods"),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(plane, fresh_name):
    name = fresh_name("access")
    plane.apply(moved(load("gpu+serving"), name))
    make_namespace(plane, name, "default-editor")
    return name


@pytest.mark.parametrize(
    ("account", "rights"),
    [
        ("default-editor", LAUNCHER | DEPLOYER),
        ("fipo-reaper", REAPER),
        ("fipo-trainer", set()),
        ("fipo-mlflow", set()),
        ("fipo-server", set()),
    ],
)
def test_an_account_may_do_this_and_nothing_else(plane, place, account, rights):
    """All verbs on all kinds that matter, by SubjectAccessReview; and nothing in another namespace or in all."""
    asked = list(itertools.product(VERBS, sorted(KINDS)))
    assert allowed(plane, account, place, place, asked) == rights
    for elsewhere in ("default", "kube-system", ""):
        assert allowed(plane, account, place, elsewhere, sorted(rights)) == set()


def allowed(plane, account, home, namespace, asked):
    """Those of (verb, kind) that the account may do there; `""` asks about the whole cluster."""
    reviews = []
    for verb, kind in asked:
        kind, _, subresource = kind.partition("/")
        resource, _, group = kind.partition(".")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        attributes["namespace"] = namespace
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": f"system:serviceaccount:{home}:{account}", "resourceAttributes": attributes},
            }
        )
    answers = plane.review(reviews) if reviews else []
    return {question for question, answer in zip(asked, answers, strict=True) if answer["status"]["allowed"]}


def test_nobody_of_ours_may_widen_what_he_may(plane, place):
    """To hand on rights, to impersonate, to approve certificates."""
    asked = [
        ("bind", "roles.rbac.authorization.k8s.io"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("impersonate", "serviceaccounts"),
        ("create", "serviceaccounts/token"),
        ("approve", "signers.certificates.k8s.io"),
    ]
    for account in OURS:
        assert allowed(plane, account, place, place, asked) == set(), account
