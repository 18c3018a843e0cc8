import math

import pytest
import torch

from fipo.algorithm.future_kl import future_kl
from fipo.algorithm.guards import influence_std, no_op_warning, noise_amplification, noise_warning


def test_noise_amplification_is_what_the_scan_does_to_noise() -> None:
    noise = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))
    kl = future_kl(noise, torch.ones(64, 4096, dtype=torch.bool), half_life=32.0)[:, :3000]
    assert kl.std().item() == pytest.approx(noise_amplification(32.0), rel=0.05)
    assert noise_amplification(32.0) == pytest.approx(4.86, abs=0.005)
    assert noise_amplification(math.inf) == math.inf


def test_noise_warning_names_the_noise_in_a_log_prob() -> None:
    assert noise_warning(0.02**2, half_life=32.0) is None
    warning = noise_warning(0.486**2, half_life=32.0)
    assert warning is not None
    assert "spreads by 0.486 nats" in warning
    assert "noise of 0.1 nats in each log-prob" in warning


@pytest.mark.parametrize(
    ("square_deviations", "silent"),
    [([0.0, 0.0, 0.0], False), ([0.0, 1e-9], True), ([0.0], True), ([], True)],
)
def test_no_op_warning_needs_several_updates_without_effect(square_deviations: list[float], silent: bool) -> None:
    assert (no_op_warning(square_deviations) is None) is silent


def test_influence_std() -> None:
    # Weights 0.9 and 1.2: mean 1.05, spread 0.15; the mean square distance from 1 is (0.01 + 0.04) / 2.
    assert influence_std(1.05, 0.025) == pytest.approx(0.15)
    assert influence_std(1.0, 0.0) == 0.0
