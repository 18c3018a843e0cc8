"""What tests of several rooms share."""

import os

import pytest

from fipo.config import Distributed


@pytest.fixture(scope="session")
def joined():
    """This process as the only rank, once for all tests in it: DeepSpeed keeps the first process group for good.

    And the variables that say so, which what other tests start must not inherit.
    """
    from fipo.distributed.bootstrap import join_world

    before = dict(os.environ)
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        inside = {name: value for name, value in os.environ.items() if before.get(name) != value}
        os.environ.clear()
        os.environ.update(before)
        yield world, inside


@pytest.fixture
def world(joined, monkeypatch):
    """The only rank of a group of one."""
    world, inside = joined
    for name, value in inside.items():
        monkeypatch.setenv(name, value)
    return world
