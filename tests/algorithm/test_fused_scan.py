"""Where Triton's kernel cannot run, that is found out by trying, and the recurrence is computed all the same."""

import sys

import pytest
import torch

from fipo.algorithm.scan import fused_scan_fault


@pytest.fixture(autouse=True)
def anew():
    fused_scan_fault.cache_clear()
    yield
    fused_scan_fault.cache_clear()


def test_a_device_on_which_it_does_not_run_has_a_reason_and_is_tried_once():
    if torch.cuda.is_available():
        pytest.skip("it runs here")
    assert ": " in fused_scan_fault(torch.device("cpu"))
    fused_scan_fault(torch.device("cpu"))
    assert fused_scan_fault.cache_info().misses == 1


def test_without_triton_the_reason_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "fipo.algorithm.scan_triton", raising=False)
    assert "triton" in fused_scan_fault(torch.device("cpu"))
