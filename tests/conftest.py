"""What tests of several rooms share."""

import pytest

from fipo.config import Distributed


@pytest.fixture(scope="session")
def world():
    """This process as the only rank: once for all tests in it, for DeepSpeed keeps the first process group for good."""
    from fipo.distributed.bootstrap import join_world

    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        yield world
