"""docs/uninstall.md, its commands as they stand there; last, for the namespace `fipo` does not come back."""

import re
import shlex

import pytest

from tests.apiserver.platform import make_namespace, moved
from tests.k8s.test_manifests import CLUSTER_WIDE, K8S, load

PAGE = (K8S.parent / "docs" / "uninstall.md").read_text()


def commands(block):
    """The kubectl commands of the page's code block of this number."""
    text = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[block].replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("kubectl")]


def left(plane, namespace):
    """Everything of ours in a namespace that is not on its way out: claims wait for a controller that is not here."""
    kinds = plane.kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    found = plane.kubectl(
        "--namespace",
        namespace,
        "get",
        ",".join(kinds),
        "--selector=app.kubernetes.io/part-of=fipo",
        "--output=name",
        "--ignore-not-found",
    )
    return sorted(
        name
        for name in found.split()
        if "deletionTimestamp" not in plane.get("--namespace", namespace, name)["metadata"]
    )


@pytest.mark.parametrize("overlay", ["prod+serving+pre-pull", "local"])
def test_by_label_nothing_is_left_in_a_namespace_that_stays(plane, fresh_name, overlay):
    name = fresh_name("uninstall")
    make_namespace(plane, name, "default-editor")
    plane.apply(moved(load(overlay), name))
    assert left(plane, name)
    for command in commands(1):
        plane.kubectl(
            *(word if word != "fipo" or command[at - 1] != "--namespace" else name for at, word in enumerate(command)),
            "--wait=false",
        )
    assert left(plane, name) == []
    for kind in CLUSTER_WIDE - {"Namespace"}:
        assert plane.items(kind, "--selector=app.kubernetes.io/part-of=fipo") == [], kind


def test_by_overlay_everything_goes(plane):
    overlay = str(K8S / "overlays" / "gpu")
    make_namespace(plane, "fipo", "default-editor")
    plane.kubectl("apply", "--kustomize", overlay)
    for command in commands(0):
        plane.kubectl(*(word.replace("k8s/overlays/mine", overlay) for word in command), "--wait=false")
    for item in load("gpu"):
        if item["kind"] in CLUSTER_WIDE - {"Namespace"}:
            assert "NotFound" in plane.kubectl("get", item["kind"], item["metadata"]["name"], check=False)
    assert plane.get("namespace", "fipo")["status"]["phase"] == "Terminating"
