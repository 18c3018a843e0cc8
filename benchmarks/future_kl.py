"""Future-KL against the paper's own listing: how much faster, and whether the cost stays linear in the length.

    python -m benchmarks.future_kl [--json]

The listing sums over all later tokens, in chunks of 128 columns of the matrix of decays: quadratic in the length.
Both compute the same [8, 20480] float32 case in one run, and their results are compared.

The whole loss, compiled, forward and backward, is compared with copying memory: it must read log_probs, old_log_probs,
advantages and the mask and write a gradient, 17 bytes a token. On a GPU the case is [64, 20480].
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor

from benchmarks.harness import DEVICE, context, seconds
from benchmarks.pairs import alternate
from fipo.algorithm.future_kl import future_kl
from fipo.algorithm.loss import policy_loss
from fipo.algorithm.options import LossOptions

BATCH, TIME, SHORT, HALF_LIFE = 8, 20480, 1024, 32.0


def listing(log_ratio: Tensor, mask: Tensor, half_life: float, chunk: int = 128) -> Tensor:
    """The definition, with the matrix gamma^(k - t) made chunk by chunk."""
    time = log_ratio.shape[1]
    position = torch.arange(time, device=log_ratio.device)
    gamma = torch.tensor(2.0 ** (-1.0 / half_life), device=log_ratio.device)
    masked = log_ratio * mask
    total = torch.zeros_like(log_ratio)
    for start in range(0, time, chunk):
        later = position[start : start + chunk]
        distance = later - position[:, None]
        decay = torch.pow(gamma, distance.clamp(min=0)) * (distance >= 0)
        total += masked[:, start : start + chunk] @ decay.T
    return total


def whole_loss(batch: int) -> dict[str, float]:
    """Time of the compiled loss at [batch, TIME], and what share of copy bandwidth its unavoidable traffic makes."""
    old = -torch.rand(batch, TIME, device=DEVICE)
    log_probs = (old + 0.05 * torch.randn_like(old)).requires_grad_()
    advantages, mask = torch.randn_like(old), torch.rand_like(old) < 0.9
    compiled = torch.compile(policy_loss, fullgraph=True)

    def step() -> None:
        log_probs.grad = None
        compiled(LossOptions(), log_probs, old, advantages, mask, num_loss_tokens=float(old.numel())).loss.backward()

    source = torch.empty(2**26, device=DEVICE)
    copy = torch.empty_like(source)
    copy_bandwidth = 2 * source.nbytes / seconds(lambda: copy.copy_(source), 10)
    step()
    loss = seconds(step, 20)
    return {"seconds": loss, "share_of_copy_bandwidth": 17 * old.numel() / loss / copy_bandwidth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()

    torch.manual_seed(0)
    log_ratio = torch.randn(BATCH, TIME, device=DEVICE)
    mask = torch.rand(BATCH, TIME, device=DEVICE) < 0.9
    packed = (torch.rand(BATCH, TIME, device=DEVICE) < 1e-3).cumsum(-1)
    head = (log_ratio[:, :SHORT].contiguous(), mask[:, :SHORT].contiguous())

    expected, actual = listing(log_ratio, mask, HALF_LIFE), future_kl(log_ratio, mask, half_life=HALF_LIFE)
    error = ((actual - expected).abs().max() / expected.abs().max()).item()
    ours = seconds(lambda: future_kl(log_ratio, mask, half_life=HALF_LIFE), 50)
    ours_packed = seconds(lambda: future_kl(log_ratio, mask, half_life=HALF_LIFE, segment_ids=packed), 20)
    ours_short = seconds(lambda: future_kl(*head, half_life=HALF_LIFE), 50)
    in_turn = alternate(
        lambda: future_kl(log_ratio, mask, half_life=HALF_LIFE),
        lambda: listing(log_ratio, mask, HALF_LIFE),
        our_calls=1000,
    )
    peer = min(cost.seconds for cost in in_turn.theirs)

    loss_batch = 64 if DEVICE.type == "cuda" else BATCH
    loss = whole_loss(loss_batch)

    found = context()
    result = {
        **in_turn.to_json(),
        "packed_ratio": peer / ours_packed,
        "time_per_token_ratio": (ours / TIME) / (ours_short / SHORT),
        "seconds": {"ours": ours, "ours_packed": ours_packed, "ours_at_1024": ours_short, "listing": peer},
        "largest_relative_difference": error,
        "loss": loss | {"shape": [loss_batch, TIME]},
        "shape": [BATCH, TIME],
        **found,
    }
    print(f"[{BATCH}, {TIME}] float32, half-life {HALF_LIFE:g}, on {found['machine']['device']}")
    print(f"  paper's listing {1e3 * peer:10.2f} ms")
    print(f"  future_kl       {1e3 * ours:10.2f} ms   {result['ratio']:8.0f} times faster, {error:.0e} apart")
    print(f"  packed rows     {1e3 * ours_packed:10.2f} ms   {result['packed_ratio']:8.0f} times faster")
    print(f"  time a token, at {TIME} over at {SHORT}: {result['time_per_token_ratio']:.2f}")
    print(
        f"  the whole loss, forward and backward, [{loss_batch}, {TIME}]: {1e3 * loss['seconds']:.2f} ms, "
        f"{loss['share_of_copy_bandwidth']:.1%} of copy bandwidth"
    )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
