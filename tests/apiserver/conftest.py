"""`make test-apiserver`: what only a real API server can judge. Skipped where there is none, see control_plane.py."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.apiserver.control_plane import NEEDED, ControlPlane, control_plane, missing
from tests.apiserver.platform import install_kinds


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster with nothing in it."""
    if why := missing(*NEEDED):
        pytest.skip(why)
    with control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def plane(bare: ControlPlane) -> ControlPlane:
    """A cluster that has Kubeflow's kinds."""
    install_kinds(bare)
    return bare


@pytest.fixture(scope="session")
def fresh_name() -> Callable[[str], str]:
    """`fresh_name("prod")`: of a namespace that no other test has; without controllers none ever goes away."""
    numbers = itertools.count(1)
    return lambda stem: f"{stem}-{next(numbers)}"


@pytest.fixture
def as_client(monkeypatch: pytest.MonkeyPatch) -> Callable[[ControlPlane], None]:
    """`as_client(plane)`: what fipo's own code asks is asked with the rights of that user."""

    def point(cluster: ControlPlane) -> None:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(cluster.kubeconfig))

    return point
