"""Every overlay on a real API server: applied, applied again, upgraded from the version before, and removed."""

import subprocess

import pytest
import yaml

from tests.apiserver.control_plane import stream
from tests.apiserver.platform import make_namespace, moved
from tests.k8s.test_manifests import COMPOSED, K8S, OVERLAYS, load

ROOT = K8S.parent
ALL = [*OVERLAYS, *COMPOSED]


@pytest.fixture
def place(plane, fresh_name):
    """A namespace to apply to; a Kubeflow's own is there before."""
    name = fresh_name("overlay")
    make_namespace(plane, name)
    return name


@pytest.mark.parametrize("overlay", ALL)
def test_it_is_taken_without_a_warning(plane, place, overlay):
    """Unknown fields are errors for kubectl, and what is deprecated is warned of."""
    said = plane.kubectl(
        "apply", "--server-side", "--filename", "-", text=stream(moved(load(overlay), place)), check=False
    )
    assert [line for line in said.splitlines() if not line.endswith("serverside-applied")] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("options", [["--server-side"], []], ids=["server-side", "client-side"])
def test_applied_again_nothing_changes(plane, place, overlay, options):
    """The API server counts a claim's second apply as a change, and no later one."""
    manifests = moved(load(overlay), place)
    plane.apply(manifests, *options)
    plane.apply(manifests, *options)
    before = versions(plane, manifests, place)
    plane.apply(manifests, *options)
    assert versions(plane, manifests, place) == before


@pytest.mark.parametrize("overlay", ["gpu", "prod"])
def test_one_may_change_from_client_side_to_server_side(plane, place, overlay):
    """A field that is one whole, and to which the server adds its defaults, is written out whole.

    Not the claims of the stateful sets of `local`: they cannot be changed any more.
    """
    manifests = moved(load(overlay), place)
    plane.apply(manifests)
    plane.apply(manifests, "--server-side")
    plane.apply(manifests)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_version_before_is_upgraded(plane, place, overlay):
    """As in docs/upgrade.md; what cannot be changed has another name."""
    before = moved(list(yaml.safe_load_all(as_it_was(overlay))), place)
    now = moved(load(overlay), place)
    plane.apply(before)
    plane.apply(now)
    gone = {(item["kind"], item["metadata"]["name"]) for item in before} - {
        (item["kind"], item["metadata"]["name"]) for item in now
    }
    assert {kind for kind, _ in gone} <= {"TrainingRuntime"}, "docs/upgrade.md deletes old runtimes and nothing else"


def as_it_was(overlay):
    """The rendered overlay of the commit before the last that changed it."""
    path = f"k8s/rendered/{overlay}.yaml"
    log = subprocess.run(
        ["git", "log", "--format=%H", "-2", "--", path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commits = log.stdout.split()
    if len(commits) < 2:
        pytest.skip(f"git holds one version of {path} alone: fetch the whole history")
    shown = subprocess.run(
        ["git", "show", f"{commits[1]}:{path}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return shown.stdout


def versions(plane, manifests, namespace):
    """Resource versions of what was applied: they count changes."""
    return {
        (item["kind"], item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for kind in sorted({item["kind"] for item in manifests} - {"Namespace", "PriorityClass"})
        for item in plane.items("--namespace", namespace, kind)
    }
