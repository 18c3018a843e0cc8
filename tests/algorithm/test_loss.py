import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fipo.algorithm.forking import entropy_threshold, forking_tokens
from fipo.algorithm.influence import influence
from fipo.algorithm.loss import LossOutput, fipo_loss, policy_loss
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import Responses
from fipo.errors import ConfigError

few = settings(max_examples=20, deadline=None, derandomize=True)

DEFAULTS: dict[str, Any] = {
    "half_life": 32.0,
    "influence_clip_low": 0.2,
    "influence_clip_high": 0.2,
    "safety_ratio": 10.0,
    "safety": "reset",
    "clip_low": 0.2,
    "clip_high": 0.28,
    "dual_clip": 10.0,
}


def equations(log_probs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, **changes: Any) -> tuple[float, Tensor]:
    """Eqs. 3 to 8 as plain float64 loops: the token-mean loss and the influence weights."""
    o = DEFAULTS | changes
    gamma = 2.0 ** (-1.0 / o["half_life"])
    total, count = 0.0, 0
    weights = torch.ones(mask.shape, dtype=torch.float64)
    new, before, a_all = log_probs.tolist(), old.tolist(), advantages.tolist()
    for row in range(mask.shape[0]):
        tokens = mask[row].nonzero().flatten().tolist()
        log_ratio = {t: new[row][t] - before[row][t] for t in tokens}
        for t in tokens:
            future = 0.0
            for k in tokens:
                if k >= t and math.exp(log_ratio[k]) <= o["dual_clip"]:
                    future += gamma ** (k - t) * log_ratio[k]
            f = min(max(math.exp(future), 1 - o["influence_clip_low"]), 1 + o["influence_clip_high"])
            a, r = a_all[row][t], math.exp(log_ratio[t])
            if a < 0 and r > o["safety_ratio"]:
                f = 1.0 if o["safety"] == "reset" else min(max(f, 0.8), 1.0)
            weights[row, t] = f
            clipped = min(max(r, 1 - o["clip_low"]), 1 + o["clip_high"])
            loss = max(-a * f * r, -a * f * clipped)
            if a < 0:
                loss = min(loss, -a * f * o["dual_clip"])
            total, count = total + loss, count + 1
    return total / max(count, 1), weights


def random_case(
    seed: int, batch: int = 4, time: int = 24, spread: float = 0.5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log_probs, old_log_probs, advantages and a mask with a prompt before and padding after each response."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(batch, time, generator=generator) * 3
    log_probs = (old + spread * torch.randn(batch, time, generator=generator)).clamp(max=0.0)
    prompt = torch.randint(1, time // 3, (batch, 1), generator=generator)
    end = torch.randint(time // 2, time + 1, (batch, 1), generator=generator)
    position = torch.arange(time)
    mask = (position >= prompt) & (position < end)
    advantages = torch.randn(batch, 1, generator=generator) * mask
    return log_probs.requires_grad_(), old, advantages, mask


def gradient(output: LossOutput, log_probs: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(output.loss, log_probs, retain_graph=True)
    return result


LOSSES = ["fipo", "dapo", "grpo", "dr_grpo", "gspo", "cispo", "sapo"]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"half_life": 4.0, "influence_clip_low": 0.0},
    {"influence_clip_low": 1.0, "influence_clip_high": 9.0, "half_life": 128.0},
    {"safety_ratio": 1.2, "safety": "reset"},
    {"safety_ratio": 1.2, "safety": "clamp"},
    {"dual_clip": 1.5},
    {"clip_low": 0.1, "clip_high": 0.5},
]


@pytest.mark.parametrize("changes", SETTINGS)
@few
@given(seed=st.integers(0, 2**31))
def test_equals_the_equations(changes: dict[str, Any], seed: int) -> None:
    case = random_case(seed)
    output = fipo_loss(*case, **changes)
    expected, weights = equations(*case, **changes)
    count = int(case[3].sum())
    assert output.loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert output.metrics["influence_weight_mean"].item() == pytest.approx(float(weights[case[3]].mean()), rel=1e-5)
    assert output.metrics["influence_weight_max"].item() == pytest.approx(float(weights[case[3]].max()), rel=1e-5)
    deviation = float((weights - 1).square().sum() / count)
    assert output.metrics["influence_weight_square_deviation"].item() == pytest.approx(deviation, rel=1e-4, abs=1e-7)


def test_by_hand() -> None:
    # One response of two tokens, gamma 1/2: log_ratio (log 1.1, log 1.2), future_kl (log 1.1 + log 1.2 / 2, log 1.2).
    log_probs = torch.tensor([[0.0, math.log(0.55), math.log(0.6)]], requires_grad=True)
    old = torch.tensor([[0.0, math.log(0.5), math.log(0.5)]])
    mask = torch.tensor([[False, True, True]])
    output = fipo_loss(log_probs, old, torch.full((1, 3), 2.0), mask, half_life=1.0, influence_clip_high=0.9)
    first, second = 1.1 * 1.2**0.5, 1.2
    assert output.loss.item() == pytest.approx(-2 * (first * 1.1 + second * 1.2) / 2, rel=1e-6)
    # Inside the clip range d loss / d log_prob = -A f r / N.
    expected = torch.tensor([[0.0, -2 * first * 1.1 / 2, -2 * second * 1.2 / 2]])
    torch.testing.assert_close(gradient(output, log_probs), expected)


@few
@given(seed=st.integers(0, 2**31))
def test_unchanged_policy_gives_weights_of_one_and_the_gradient_of_dapo(seed: int) -> None:
    log_probs, old, advantages, mask = random_case(seed, spread=0.0)
    ours = fipo_loss(log_probs, old, advantages, mask)
    dapo = policy_loss(LossOptions(loss="dapo"), log_probs, old, advantages, mask)
    assert ours.metrics["influence_weight_square_deviation"].item() == 0.0
    assert torch.equal(gradient(ours, log_probs), gradient(dapo, log_probs))


@few
@given(seed=st.integers(0, 2**31))
def test_zero_advantage_gives_zero_gradient(seed: int) -> None:
    log_probs, old, advantages, mask = random_case(seed)
    output = fipo_loss(log_probs, old, torch.zeros_like(advantages), mask)
    assert gradient(output, log_probs).eq(0).all()


@pytest.mark.parametrize("loss", LOSSES)
@few
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 3))
def test_micro_batches_add_up_exactly(loss: Any, seed: int, cut: int) -> None:
    log_probs, old, advantages, mask = random_case(seed)
    options = LossOptions(loss=loss, dual_clip=1.5)
    counts: dict[str, Any] = {"num_loss_tokens": mask.sum(), "num_loss_responses": 4, "max_response_tokens": 24}
    whole = policy_loss(options, log_probs, old, advantages, mask, **counts)
    parts = [
        policy_loss(options, log_probs[rows], old[rows], advantages[rows], mask[rows], **counts)
        for rows in (slice(0, cut), slice(cut, 4))
    ]
    parts.append(policy_loss(options, log_probs, old, advantages, torch.zeros_like(mask), **counts))  # padding
    total = sum((part.loss for part in parts), torch.zeros(()))
    torch.testing.assert_close(total, whole.loss)
    (ours,) = torch.autograd.grad(total, log_probs)
    torch.testing.assert_close(ours, gradient(whole, log_probs))
    for name, value in whole.metrics.items():
        values = torch.stack([part.metrics[name] for part in parts])
        reduced = values.amin() if name.endswith("_min") else values.amax() if name.endswith("_max") else values.sum()
        torch.testing.assert_close(reduced, value, msg=name)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("drop", [False, True])
@few
@given(seed=st.integers(0, 2**31))
def test_padding_and_packing_change_nothing(loss: Any, drop: bool, seed: int) -> None:
    log_probs, old, advantages, mask = random_case(seed)
    options = LossOptions(loss=loss, dual_clip=1.5, drop_dual_clipped_responses=drop)
    rows = policy_loss(options, log_probs, old, advantages, mask, max_response_tokens=24)
    junk = torch.full((4, 9), math.nan)
    padded = policy_loss(
        options,
        torch.cat([log_probs, junk], 1),
        torch.cat([old, junk], 1),
        torch.cat([advantages, junk], 1),
        torch.cat([mask, torch.zeros_like(junk, dtype=torch.bool)], 1),
        max_response_tokens=24,
    )
    packed = policy_loss(
        options,
        *(x.reshape(1, -1) for x in (log_probs, old, advantages, mask)),
        segment_ids=torch.arange(4).repeat_interleave(24)[None],
        max_response_tokens=24,
    )
    for other in (padded, packed):
        torch.testing.assert_close(other.loss, rows.loss)
        torch.testing.assert_close(gradient(other, log_probs), gradient(rows, log_probs))
        for name, value in rows.metrics.items():
            torch.testing.assert_close(other.metrics[name], value, msg=name)


def test_grpo_by_hand() -> None:
    # Responses of 1 and 2 tokens count the same; the ratio 1.25 is clipped at 1.2, not at 1.28.
    log_probs = torch.tensor([[1.25, 1.0], [1.0, 1.1]]).log()
    mask = torch.tensor([[True, False], [True, True]])
    advantages = torch.tensor([[1.0, 0.0], [-1.0, -1.0]])
    output = policy_loss(LossOptions(loss="grpo"), log_probs, torch.zeros(2, 2), advantages, mask)
    assert output.loss.item() == pytest.approx((-1.2 + (1.0 + 1.1) / 2) / 2, rel=1e-6)


def test_dr_grpo_by_hand() -> None:
    # As GRPO, but each token counts 1 / (responses times the length limit), whatever the length of its response.
    log_probs = torch.tensor([[1.25, 1.0], [1.0, 1.1]]).log()
    mask = torch.tensor([[True, False], [True, True]])
    advantages = torch.tensor([[1.0, 0.0], [-1.0, -1.0]])
    case = (LossOptions(loss="dr_grpo"), log_probs, torch.zeros(2, 2), advantages, mask)
    output = policy_loss(*case, max_response_tokens=8)
    assert output.loss.item() == pytest.approx((-1.2 + 1.0 + 1.1) / (2 * 8), rel=1e-6)
    with pytest.raises(ConfigError, match="max_response_tokens: must be the length limit"):
        policy_loss(*case)


def test_gspo_by_hand() -> None:
    # The ratios 1.5 and 1/1.35 have the geometric mean sqrt(1.5 / 1.35): the response counts once, with that ratio.
    ratio = torch.tensor([[1.5, 1 / 1.35], [1.0, 1.0]])
    mask = torch.tensor([[True, True], [True, False]])
    log_probs = ratio.log().requires_grad_()
    advantages = torch.tensor([[3.0, 3.0], [-1.0, 0.0]])
    output = policy_loss(LossOptions(loss="gspo"), log_probs, torch.zeros(2, 2), advantages, mask)
    sequence = (1.5 / 1.35) ** 0.5
    assert output.loss.item() == pytest.approx((-3.0 * sequence + 1.0) / 2, rel=1e-6)
    # d loss / d log_prob_t = -A s / (length · responses), alike for all tokens of a response.
    expected = torch.tensor([[-3.0 * sequence / 4, -3.0 * sequence / 4], [1.0 / 2, 0.0]])
    torch.testing.assert_close(gradient(output, log_probs), expected)


def test_cispo_by_hand() -> None:
    # Ratios 2 and 1/2 are clipped at 1.28 and 0.8, 1.1 is not; unlike PPO's clip, all keep their gradient, -A w.
    log_probs = torch.tensor([[-0.1, -0.2, -0.5]], requires_grad=True)
    old = log_probs.detach() - torch.tensor([[2.0, 0.5, 1.1]]).log()
    advantages, mask = torch.tensor([[1.0, -1.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    output = policy_loss(LossOptions(loss="cispo"), log_probs, old, advantages, mask)
    assert output.loss.item() == pytest.approx((1.28 * 0.1 - 0.8 * 0.2 + 1.1 * 0.5) / 3, rel=1e-6)
    torch.testing.assert_close(gradient(output, log_probs), torch.tensor([[-1.28, 0.8, -1.1]]) / 3)


def sapo(ratios: list[list[float]], advantages: list[float], positive: float, negative: float) -> float:
    """arXiv 2511.20347, as plain loops: responses count alike, tau depends on the sign of A."""
    total = 0.0
    for response, a in zip(ratios, advantages, strict=True):
        tau = positive if a > 0 else negative
        total += sum(4 / tau / (1 + math.exp(-tau * (r - 1))) * a for r in response) / len(response)
    return -total / len(ratios)


def test_sapo_equals_its_equations() -> None:
    ratios, advantages = [[0.5, 1.0, 3.0], [2.0, 0.9]], [0.7, -1.3]
    mask = torch.tensor([[True, True, True], [True, True, False]])
    log_probs = torch.tensor([ratios[0], [*ratios[1], 7.0]]).log().requires_grad_()
    case = (torch.zeros(2, 3), torch.tensor([[0.7] * 3, [-1.3] * 3]), mask)
    paper = policy_loss(LossOptions(loss="sapo"), log_probs, *case)
    assert paper.loss.item() == pytest.approx(sapo(ratios, advantages, 1.0, 1.05), rel=1e-6)
    others = LossOptions(loss="sapo", gate_temperature_positive=3.0, gate_temperature_negative=0.5)
    output = policy_loss(others, log_probs, *case)
    assert output.loss.item() == pytest.approx(sapo(ratios, advantages, 3.0, 0.5), rel=1e-6)
    # On the old policy the gradient is the policy gradient, -A / (length · responses); far away it fades, never to 0.
    near = torch.zeros(2, 3, requires_grad=True)
    expected = torch.tensor([[-0.7 / 6] * 3, [1.3 / 4, 1.3 / 4, 0.0]])
    torch.testing.assert_close(gradient(policy_loss(LossOptions(loss="sapo"), near, *case), near), expected)
    far = gradient(output, log_probs)
    assert 0 < -far[0, 2].item() / 3.0 < 0.05 * 0.7 / 6, "d loss / d ratio at a ratio of 3"


def forking_by_hand(entropy: list[float], share: float) -> list[bool]:
    """The ceil(share · n) tokens of highest entropy, by sorting."""
    chosen = sorted(range(len(entropy)), key=lambda token: -entropy[token])[: math.ceil(share * len(entropy))]
    return [token in chosen for token in range(len(entropy))]


def test_only_forking_tokens_count() -> None:
    # arXiv 2506.01939: DAPO with an indicator on the tokens of highest entropy; the denominator counts all tokens.
    entropy = torch.tensor([[0.1, 2.0, 0.3, 9.0, 0.0], [1.5, 0.2, 0.6, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True, False, True], [True, True, True, False, False]])
    chosen = forking_by_hand(entropy[mask].tolist(), 0.25)
    assert sum(chosen) == 2, "of seven"
    forking = forking_tokens(entropy, mask, entropy_threshold([entropy[:1][mask[:1]], entropy[1:][mask[1:]]], 0.25))
    assert forking[mask].tolist() == chosen and not forking[~mask].any()
    log_probs = torch.full((2, 5), 1.1).log().requires_grad_()
    case = (log_probs, torch.zeros(2, 5), torch.tensor([[1.0] * 5, [-2.0] * 5]), mask)
    options = LossOptions(loss="dapo", forking_share=0.25)
    output = policy_loss(options, *case, forking=forking)
    assert output.loss.item() == pytest.approx((-1.1 + 2 * 1.1) / 7, rel=1e-6)
    assert (gradient(output, log_probs) != 0).tolist() == forking.tolist()
    with pytest.raises(ConfigError, match=r"forking: must be given with forking_share 0\.25"):
        policy_loss(options, *case)


def test_a_share_of_tokens_is_rounded_up() -> None:
    tokens = torch.arange(15.0)
    assert entropy_threshold([tokens], 0.2) == 12.0, "three of fifteen, whatever 0.2 is in binary"
    assert entropy_threshold([tokens], 0.21) == 11.0
    assert entropy_threshold([tokens[:1], tokens[:0]], 0.01) == 0.0, "at least one"
    assert entropy_threshold([], 0.2) == math.inf


def test_the_dual_clip_bounds_the_loss_of_negative_advantages() -> None:
    log_probs = torch.tensor([[20.0, 20.0]]).log().requires_grad_()
    advantages = torch.tensor([[-1.0, 1.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    bounded = policy_loss(LossOptions(loss="dapo"), log_probs, torch.zeros(1, 2), advantages, mask)
    assert bounded.loss.item() == pytest.approx((10.0 - 1.28) / 2, rel=1e-6)
    assert gradient(bounded, log_probs).tolist() == [[0.0, 0.0]]
    free = policy_loss(LossOptions(loss="dapo", dual_clip=math.inf), log_probs, torch.zeros(1, 2), advantages, mask)
    assert free.loss.item() == pytest.approx((20.0 - 1.28) / 2, rel=1e-6)


def test_the_mask_of_equation_5_covers_both_signs() -> None:
    # The second token's ratio of 12 is above dual_clip: the first must not see it, whatever the sign of the advantage.
    log_probs = torch.tensor([[1.0, 12.0]]).log()
    for sign in (1.0, -1.0):
        advantages = torch.full((1, 2), sign)
        output = fipo_loss(log_probs, torch.zeros(1, 2), advantages, torch.ones(1, 2, dtype=torch.bool))
        assert output.metrics["future_kl_square_mean"].item() == 0.0
        assert output.metrics["influence_weight_square_deviation"].item() == 0.0


def test_without_the_mask_of_equation_5_every_token_counts() -> None:
    log_probs, mask = torch.tensor([[1.0, 12.0]]).log(), torch.ones(1, 2, dtype=torch.bool)
    options = LossOptions(mask_future_kl=False, drop_dual_clipped_responses=True, half_life=math.inf)
    output = policy_loss(options, log_probs, torch.zeros(1, 2), torch.ones(1, 2), mask)
    assert output.metrics["future_kl_mean"].item() == pytest.approx(math.log(12), rel=1e-6)
    assert output.metrics["influence_weight_min"].item() == pytest.approx(1.2)
    # What is dropped is still counted by the ratio: one token above it is not more than one.
    assert output.metrics["dropped_fraction"].item() == 0.0
    two = policy_loss(options, torch.full((1, 2), 12.0).log(), torch.zeros(1, 2), -torch.ones(1, 2), mask)
    assert two.metrics["dropped_fraction"].item() == 1.0


def test_the_authors_normalisation_is_biased() -> None:
    # Micro-batches of one and of three tokens: averaging their means gives the lone token half of the weight.
    log_probs = torch.zeros(2, 3)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    advantages = torch.tensor([[-4.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    parts = [(log_probs[row : row + 1], log_probs[row : row + 1], advantages[row : row + 1]) for row in (0, 1)]
    authors = [fipo_loss(*part, mask[row : row + 1]).loss.item() for row, part in enumerate(parts)]
    exact = [fipo_loss(*part, mask[row : row + 1], num_loss_tokens=4).loss.item() for row, part in enumerate(parts)]
    assert sum(authors) / 2 == pytest.approx((4 + 1) / 2)
    assert sum(exact) == pytest.approx((4 + 3) / 4)


def test_dropping_dual_clipped_responses() -> None:
    # Ratios above 2: two in the first response and in the last, one in the second; the last is a good one, in which
    # the dual clip bounds nothing. Only the first goes, and the denominator with it.
    log_probs = torch.tensor([[3.0, 3.0, 1.0], [3.0, 1.0, 1.0], [3.0, 3.0, 1.0]]).log()
    mask, advantages = torch.ones(3, 3, dtype=torch.bool), torch.tensor([[-1.0], [-1.0], [1.0]]).expand(3, 3)
    options = LossOptions(loss="dapo", dual_clip=2.0, drop_dual_clipped_responses=True)
    output = policy_loss(options, log_probs, torch.zeros(3, 3), advantages, mask)
    assert output.loss.item() == pytest.approx(((2 + 1 + 1) - (1.28 + 1.28 + 1)) / 6, rel=1e-6)
    assert output.metrics["dropped_fraction"].item() == pytest.approx(1 / 3)


def dropped_by_the_authors(ratio: Tensor, advantages: Tensor, weights: Tensor, mask: Tensor, c: float) -> list[bool]:
    """Of each row, from the description of their code: the unbounded loss of a token with A < 0 exceeds the bound."""
    dropped = []
    for row in range(mask.shape[0]):
        bounded = 0
        for t in mask[row].nonzero().flatten().tolist():
            a, r, f = advantages[row, t].item(), ratio[row, t].item(), weights[row, t].item()
            unbounded = max(-a * f * r, -a * f * min(max(r, 1 - 0.2), 1 + 0.28))
            bounded += a < 0 and unbounded > -a * f * c
        dropped.append(bounded > 1)
    return dropped


@few
@given(seed=st.integers(0, 2**31), dual_clip=st.floats(1.1, 4.0))
def test_the_responses_that_the_authors_drop(seed: int, dual_clip: float) -> None:
    log_probs, old, advantages, mask = random_case(seed, batch=8)
    log_ratio = (log_probs - old).detach() * mask
    options = LossOptions(dual_clip=dual_clip, drop_dual_clipped_responses=True)
    weights = influence(options, log_ratio, advantages, mask, Responses()).weights
    dropped = dropped_by_the_authors(log_ratio.exp().double(), advantages, weights, mask, dual_clip)
    output = policy_loss(options, log_probs, old, advantages, mask, num_loss_tokens=100.0)
    # Where the loss of a dropped response has no gradient, and that of another has: a kept token is not always clipped.
    lost = gradient(output, log_probs).eq(0).all(-1)
    whole = policy_loss(replace(options, drop_dual_clipped_responses=False), log_probs, old, advantages, mask)
    without = gradient(whole, log_probs).eq(0).all(-1)
    assert lost.tolist() == [drop or flat for drop, flat in zip(dropped, without.tolist())]
    expected = mask[torch.tensor(dropped)].sum().item() / 100.0
    assert output.metrics["dropped_fraction"].item() == pytest.approx(expected, abs=1e-6)


def test_metrics_by_hand() -> None:
    # The last token is not of the response.
    ratio = torch.tensor([[0.5, 1.0, 2.0, 20.0, 0.5, 20.0, 1e6]])
    advantages = torch.tensor([[-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, -9.0]])
    mask = torch.arange(7)[None] < 6
    output = fipo_loss(ratio.log(), torch.zeros(1, 7), advantages, mask, half_life=0.01)
    metrics = {name: value.item() for name, value in output.metrics.items()}
    # A half-life of 0.01 tokens: future_kl is the token's own log_ratio; 0 where the ratio is above dual_clip.
    expected = {
        "influence_weight_mean": (0.8 + 1 + 1.2 + 1 + 0.8 + 1) / 6,
        "influence_weight_min": 0.8,
        "influence_weight_max": 1.2,
        "influence_weight_square_deviation": 3 * 0.04 / 6,
        "influence_clip_low_fraction": 2 / 6,
        "influence_clip_high_fraction": 1 / 6,
        "safety_fraction": 1 / 6,
        "future_kl_mean": -math.log(2) / 6,
        "future_kl_square_mean": 3 * math.log(2) ** 2 / 6,
        "future_kl_masked_fraction": 2 / 6,
        "policy_kl_k1": (math.log(2) - 2 * math.log(20)) / 6,
        "policy_kl_k3": (44.0 - 6 + math.log(2) - 2 * math.log(20)) / 6,
        "importance_ratio_mean": 44.0 / 6,
        "importance_ratio_max": 20.0,
        "ratio_clip_low_fraction": 1 / 6,
        "ratio_clip_high_fraction": 1 / 6,
        "dual_clip_fraction": 1 / 6,
        "dropped_fraction": 0.0,
        "advantage_mean": -2 / 6,
    }
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in output.metrics.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_degenerate_inputs_are_finite(loss: Any) -> None:
    inf = math.inf
    log_probs = torch.tensor([[-1.0, -inf, -inf, 0.0, inf]], requires_grad=True)
    old = torch.tensor([[-1.0, -inf, -1.0, -inf, -inf]])
    for mask in (torch.ones(1, 5), torch.zeros(1, 5), torch.eye(5)[:1]):
        for sign in (1.0, -1.0):
            advantages = torch.full((1, 5), sign)
            output = policy_loss(LossOptions(loss=loss), log_probs, old, advantages, mask.bool(), max_response_tokens=5)
            assert output.loss.isfinite()
            assert gradient(output, log_probs).isfinite().all()
            assert all(value.isfinite() for value in output.metrics.values())


def test_a_model_that_broke_is_not_hidden() -> None:
    log_probs, old, advantages, mask = (x.detach() for x in random_case(0))
    log_probs[0, 10] = math.nan
    assert mask[0, 10]
    assert fipo_loss(log_probs, old, advantages, mask).loss.isnan()


def test_bfloat16_log_probs_are_computed_in_float32() -> None:
    log_probs, old, advantages, mask = (x.detach() for x in random_case(3))
    rounded = log_probs.bfloat16(), old.bfloat16(), advantages.bfloat16()
    whole = rounded[0].float(), rounded[1].float(), rounded[2].float()
    assert fipo_loss(*rounded, mask).loss.item() == fipo_loss(*whole, mask).loss.item()


def test_compiles_without_graph_breaks() -> None:
    """One graph, so that a GPU can fuse it; nothing in it waits for the device."""
    log_probs, old, advantages, mask = random_case(0)
    compiled = torch.compile(policy_loss, backend="aot_eager", fullgraph=True)

    def run(loss: Any) -> tuple[LossOutput, Tensor]:
        leaf = log_probs.detach().requires_grad_()
        output = loss(LossOptions(), leaf, old, advantages, mask, num_loss_tokens=50.0)
        return output, torch.autograd.grad(output.loss, leaf)[0]

    (ours, gradient), (expected, expected_gradient) = run(compiled), run(policy_loss)
    torch.testing.assert_close(gradient, expected_gradient)
    torch.testing.assert_close(ours.metrics, expected.metrics)


def test_bad_input_is_named() -> None:
    good = torch.zeros(2, 3)
    with pytest.raises(ConfigError, match=r"must all be \[batch, time\]; got \(2, 3\), \(2, 3\), \(2,\), \(2, 3\)"):
        fipo_loss(good, good, good[:, 0], good.bool())
    with pytest.raises(ConfigError, match=r"response_mask: must be bool; got torch\.float32"):
        fipo_loss(good, good, good, good)
