"""Where Triton's kernel cannot run, that is found out by trying, and the recurrence is computed all the same."""

import sys

import pytest
import torch

from fipo.algorithm.fused import kernel_fault, tried


@pytest.fixture(autouse=True)
def anew():
    tried.cache_clear()
    yield
    tried.cache_clear()


def test_a_device_on_which_it_does_not_run_has_a_reason_and_is_tried_once():
    if torch.cuda.is_available():
        pytest.skip("it runs here")
    assert ": " in kernel_fault(torch.device("cpu"))
    kernel_fault(torch.device("cpu"))
    assert tried.cache_info().misses == 1


def test_without_triton_the_reason_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "fipo.algorithm.scan_triton", raising=False)
    assert "triton" in kernel_fault(torch.device("cpu"))


def test_the_compiler_takes_the_answer_as_it_is():
    """It cannot look into Triton's kernel, and must not: what is compiled then holds one way or the other."""

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2.0 if kernel_fault(x.device) else x

    compiled = torch.compile(doubled, fullgraph=True, backend="eager")
    assert compiled(torch.ones(2)).tolist() == doubled(torch.ones(2)).tolist()
