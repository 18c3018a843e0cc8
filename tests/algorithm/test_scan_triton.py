"""The Triton kernel in Triton's interpreter on the CPU. Run by itself it compares; the test needs triton installed."""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch

from fipo.algorithm.future_kl import future_kl


def compare() -> None:
    from fipo.algorithm.scan_triton import masked_reverse_scan

    torch.manual_seed(0)
    for time, half_life in ((1, 32.0), (1030, 32.0), (1030, math.inf), (70, 0.3)):
        log_ratio, mask = torch.randn(2, time), torch.rand(2, time) < 0.8
        log_ratio[~mask] = math.nan
        for segment_ids in (None, (torch.rand(2, time) < 0.01).cumsum(-1)):
            for x in (log_ratio, log_ratio.bfloat16()):
                expected = future_kl(x, mask, half_life=half_life, segment_ids=segment_ids)
                actual = masked_reverse_scan(x, mask, half_life, segment_ids)
                # The interpreter adds token after token, which a GPU does not: float32 rounding comes to 1e-5.
                torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernel_equals_the_blocked_scan() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_kernel_is_taken_on_a_gpu() -> None:
    torch.manual_seed(0)
    log_ratio, mask = torch.randn(8, 20480), torch.rand(8, 20480) < 0.8
    for segment_ids in (None, (torch.rand(8, 20480) < 0.001).cumsum(-1)):
        expected = future_kl(log_ratio, mask, half_life=32.0, segment_ids=segment_ids)
        on_gpu = None if segment_ids is None else segment_ids.cuda()
        actual = future_kl(log_ratio.cuda(), mask.cuda(), half_life=32.0, segment_ids=on_gpu).cpu()
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


if __name__ == "__main__":
    compare()
