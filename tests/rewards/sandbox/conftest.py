"""Sandboxes to run programs in, one for all tests of a module."""

import pytest

from fipo.rewards.sandbox.client import Limits, Sandbox

LIMITS = Limits(cpu_seconds=1.0, memory_bytes=256 << 20)


class WithoutNamespaces(Sandbox):
    """As where the kernel refuses them."""

    def _launch(self, mode):
        super()._launch("rest")


@pytest.fixture(scope="module", params=[Sandbox, WithoutNamespaces], ids=["namespaces", "without"])
def sandbox(request):
    """With all that there is, and without namespaces."""
    with request.param(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def confined():
    """With all that there is."""
    with Sandbox(LIMITS) as sandbox:
        yield sandbox
