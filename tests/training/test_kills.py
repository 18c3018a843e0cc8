"""A few strikes of the kill matrix, and two nodes in network namespaces."""

import pytest

from fipo.config import load_config
from tests import two_nodes
from tests.kill_matrix import Strike, survives
from tests.struck import RECIPE


@pytest.fixture(scope="module")
def config(tiny_run):
    return load_config(RECIPE, [*tiny_run.settings, "distributed.timeout_seconds=20"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "strike",
    [Strike("hash", 2, 1, 0.0), Strike("commit", 3, 0, 0.03), Strike("update", 3, 2, 0.02)],
    ids=str,
)
def test_kill_9_then_the_same_command(config, undisturbed, strike):
    assert survives(config, strike) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(bool(two_nodes.why_not()), reason=two_nodes.why_not())
def test_two_nodes_one_worker_killed_and_one_frozen(config, undisturbed):
    outcome = two_nodes.strike(config)
    assert outcome.sha256 == undisturbed
    assert outcome.killed_seconds < config.distributed.timeout_seconds <= outcome.frozen_seconds
