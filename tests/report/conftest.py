"""A simulated run: arithmetic problems, a warm-up that mixes three depths of working, and RL that finds the deepest."""

import numpy as np
import pytest

from fipo.batch import Outcome
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.records import Decision, Registration
from fipo.report.data import Comparison, ReportData, TokenInfluence

STEPS = 16
MINI_BATCHES = 8
DEPTHS = (2, 6, 11)
ACCURACY = (0.2, 0.26, 0.99)


def _result(shares: tuple[float, ...], seed: int, problems: int = 96, samples: int = 8) -> BenchmarkResult:
    rng = np.random.default_rng(seed)
    return BenchmarkResult("running-sums", tuple(_problem(index, shares, samples, rng) for index in range(problems)))


def _problem(index: int, shares: tuple[float, ...], samples: int, rng: np.random.Generator) -> ProblemResult:
    answer = index % 5
    responses = []
    for kind in rng.choice(3, size=samples, p=shares):
        right = rng.random() < ACCURACY[kind]
        given = answer if right else (answer + rng.integers(1, 5)) % 5
        tokens = DEPTHS[kind] + int(rng.integers(0, 3))
        outcome = Outcome.CORRECT if right else Outcome.WRONG
        responses.append(GradedResponse(f"\\boxed{{ {given} }}", str(given), outcome, tokens, tokens == 13, str(given)))
    return ProblemResult(f"{index:064x}", f"Add modulo 5 : {index}", str(answer), tuple(responses))


def _history(steps: int = STEPS) -> list[tuple[int, dict[str, float]]]:
    rng = np.random.default_rng(3)
    history = []
    for step in range(1, steps + 1):
        done = 1 / (1 + np.exp(-10 * (step / steps - 0.45)))
        accuracy = 0.47 + 0.51 * done + rng.normal(0, 0.012)
        mean = 7.2 + 4.3 * done + rng.normal(0, 0.1)
        moved = 0.02 + 0.05 * np.exp(-((step / steps - 0.4) ** 2) / 0.05)
        metrics = {
            "rollout/accuracy": min(accuracy, 1.0),
            "rollout/reward_mean": min(accuracy, 1.0) - 0.01,
            "rollout/response_tokens_min": 2.0,
            "rollout/response_tokens_q25": 2.0 + 8 * done,
            "rollout/response_tokens_mean": mean,
            "rollout/response_tokens_median": min(mean + 0.5, 12),
            "rollout/response_tokens_q75": 11 + done,
            "rollout/response_tokens_max": 13.0 + rng.integers(0, 4),
            "train/influence_weight_mean": 1 + 0.3 * moved + rng.normal(0, 0.002),
            "train/influence_weight_min": max(0.8, 1 - 3 * moved),
            "train/influence_weight_max": min(1.2, 1 + 3.3 * moved),
            "train/influence_weight_std": moved,
            "train/influence_clip_low_fraction": moved**1.5,
            "train/influence_clip_high_fraction": 2 * moved**1.5,
            "train/entropy": 0.75 - 0.5 * done + rng.normal(0, 0.01),
            "train/policy_kl_k3": 0.002 + 0.05 * moved + abs(rng.normal(0, 0.0004)),
            "train/grad_norm": 0.4 + 4 * moved + abs(rng.normal(0, 0.05)),
            "perf/generate_seconds": 1.1 + 0.8 * done + rng.normal(0, 0.03),
            "perf/score_seconds": 0.12,
            "perf/old_log_probs_seconds": 0.3 + 0.1 * done,
            "perf/update_seconds": 1.2 + 0.4 * done,
            "perf/step_seconds": 4.0,
        }
        metrics |= {
            f"train/influence_weight_std_update_{index}": moved * index**0.7 / 4 + rng.normal(0, 0.001) * (index > 0)
            for index in range(MINI_BATCHES)
        }
        if step % 4 == 0:
            metrics["validation/accuracy"] = min(accuracy + rng.normal(0, 0.02), 1.0)
        history.append((step, metrics))
    return history


def _tokens() -> TokenInfluence:
    tokens = ("0", "2", "3", "3", "2", "1", "1", "4", "\\boxed{", "4", "}", "<end>")
    weights = (1.162, 1.148, 1.131, 1.094, 1.052, 1.011, 0.987, 0.962, 0.935, 1.004, 1.001, 1.0)
    ratios = (0.012, 0.019, 0.035, 0.041, 0.04, 0.024, 0.025, 0.028, -0.068, 0.003, 0.001, 0.0)
    return TokenInfluence(
        7, "Add modulo 5 : 0 2 1 0 4 4 0 3", tuple(f"{token} " for token in tokens), weights, ratios, 0.94
    )


@pytest.fixture(scope="session")
def data() -> ReportData:
    warmup, trained = _result((0.46, 0.2, 0.34), 1), _result((0.005, 0.01, 0.985), 2)
    return ReportData(
        run="demo",
        recipe="demo",
        loss="fipo",
        benchmarks=(Comparison(warmup, trained),),
        history=_history(),
        tokens=_tokens(),
        gate=Decision(
            passed=True,
            metric="avg_at_k",
            benchmark="running-sums",
            value=0.98,
            minimum=0.9,
            champion=None,
            reason="avg@8 on running-sums is at least 90%, and there is no champion yet.",
        ),
        model=Registration("fipo-demo", "1", "file:///runs/objects/demo/model", "9f2b" * 16),
        seconds={"prepare": 3.1, "sft": 62.5, "train": 71.0, "evaluate": 19.8, "register": 2.2, "report": 4.0},
        links={"MLflow run": "http://localhost:5000/#/experiments/1/runs/ab12", "objects": "file:///runs/objects"},
        facts={"configuration": "5be1" * 16, "data": "77aa" * 16, "code": "1c0ffee", "seed": "0", "torch": "2.13.0"},
    )
