"""What tests of several rooms share."""

import os
import signal
import sys
from pathlib import Path

import pytest

from fipo.config import Distributed
from tests.warm import Warm


def handlers():
    """What this process does when it is asked to stop."""
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def leaves_no_handler():
    """A handler that outlives its test swallows the signals of those after it, in whatever order they run."""
    before = handlers()
    yield
    assert handlers() == before


@pytest.fixture(autouse=True)
def leaves_no_module(tmp_path_factory):
    """Code that a test wrote and imported is forgotten with it: the next test may write other code of that name."""
    path, modules = [*sys.path], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path_factory.getbasetemp()):
            del sys.modules[name]


@pytest.fixture(scope="session")
def joined():
    """This process as the only rank, once for all tests in it: DeepSpeed keeps the first process group for good.

    And the variables and the handlers that a rank has, which other tests must not inherit.
    """
    from fipo.distributed.bootstrap import join_world

    variables, before = dict(os.environ), handlers()
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        inside = {name: value for name, value in os.environ.items() if variables.get(name) != value}, handlers()
        os.environ.clear()
        os.environ.update(variables)
        for number, handler in before.items():
            signal.signal(number, handler)
        yield world, *inside


@pytest.fixture
def world(leaves_no_handler, joined, monkeypatch):
    """The only rank of a group of one."""
    world, variables, inside = joined
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = {number: signal.signal(number, handler) for number, handler in inside.items()}
    yield world
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def warm():
    """A process whose forks are ranks; see tests/warm.py."""
    warm = Warm()
    yield warm
    warm.close()


@pytest.fixture
def forked_jobs(warm, monkeypatch):
    """Jobs of the steps that a test runs are forks, where nothing is said about torchrun."""

    def torchrun(module, arguments, *, processes, max_restarts):
        code, printed = warm.run(module, *arguments, ranks=processes)
        assert code == 0, printed

    monkeypatch.setattr("fipo.launch.local.torchrun", torchrun)
