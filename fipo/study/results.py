"""What MLflow has of a study's trials, and the file that keeps it for those who did not run them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fipo.errors import DataError
from fipo.run.run import Run
from fipo.study.roles import Credits, credits_of
from fipo.study.study import Study, Trial
from fipo.tracking import finished_runs

SCORES = ("avg_at_k", "cons_at_k", "pass_at_k", "mean_response_tokens")
"""Of the trained model on the task's benchmark."""

TOKENS = "rollout/sampled_tokens"
ACCURACY = "rollout/accuracy"
CURVES = {
    ACCURACY: "Accuracy in training",
    "rollout/response_tokens_mean": "Response length (tokens)",
    "train/entropy": "Entropy (nats a token)",
    "train/policy_kl_k3": "Policy KL (nats a token)",
    "train/grad_norm": "Gradient norm",
    "train/influence_weight_std": "Spread of influence weights",
    "train/advantage_mean": "Mean advantage, length-weighted",
}
"""Metrics over training that are drawn, and their titles."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished trial."""

    trial: Trial
    scores: Mapping[str, float]
    """By the names of `SCORES`."""
    tokens: NDArray[np.float64]
    """[steps]; response tokens sampled up to and with each step."""
    curves: Mapping[str, NDArray[np.float64]]
    """[steps] each; NaN where a step did not log it."""
    credits: Credits = field(default_factory=dict)
    """By the study's roles of tokens."""


def read_results(study: Study, directory: Path) -> list[Result]:
    """All finished trials of a study, from its MLflow.

    Raises:
        DataError: none is finished.
    """
    trials = list(study.trials())
    uri = trials[0].config(directory).tracking_uri
    trained = finished_runs(uri, f"{study.name}/train", (TOKENS, *CURVES))
    scored = finished_runs(uri, f"{study.name}/evaluate")
    results = []
    for trial in trials:
        training, evaluation = trained.get(trial.name), scored.get(trial.name)
        if training and evaluation:
            steps = sorted(training.history[TOKENS])
            benchmark = trial.config(directory).gate_benchmark
            results.append(
                Result(
                    trial,
                    {name: evaluation.metrics[f"eval/{benchmark}/{name}"] for name in SCORES},
                    np.cumsum([training.history[TOKENS][step] for step in steps]),
                    {name: _values(training.history[name], steps) for name in CURVES},
                    credits_of(Run(trial.config(directory)), study.roles) if study.roles else {},
                )
            )
    if not results:
        raise DataError(f"study {study.name}: no finished trial in {uri}; run `fipo study run` first")
    return results


def store_results(results: Sequence[Result], path: Path) -> None:
    """Keep trials in a file, one a line, values to five digits."""
    with path.open("w", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(_row(result)) + "\n")


def stored_results(study: Study, path: Path) -> list[Result]:
    """The trials that `store_results` kept.

    Raises:
        DataError: there is no such file, or it has a trial that the study does not.
    """
    if not path.is_file():
        raise DataError(f"study {study.name}: {path} does not exist; `fipo study report` writes it")
    trials = {trial.name: trial for trial in study.trials()}
    results = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["run"] not in trials:
            raise DataError(f"{path}: run {row['run']!r} is no trial of study {study.name}; see `fipo study list`")
        curves = {name: np.array(curve, dtype=np.float64) for name, curve in row["curves"].items()}
        credits = {
            role: {name: np.array(values, dtype=np.float64) for name, values in fields.items()}
            for role, fields in row.get("credits", {}).items()
        }
        tokens = np.array(row["tokens"], dtype=np.float64)
        results.append(Result(trials[row["run"]], row["scores"], tokens, curves, credits))
    return results


def compare_results(own: Sequence[Result], kept: Sequence[Result]) -> Iterator[str]:
    """One line a trial of `own`: whether scores and curves are those of the kept result, to the last digit kept."""
    published = {result.trial.name: result for result in kept}
    for result in own:
        name, score = result.trial.name, 100 * result.scores["avg_at_k"]
        other = published.get(name)
        if other is None:
            verdict = "not among the kept results"
        elif _row(result) == _row(other):
            verdict = "every score and curve as kept"
        else:
            verdict = f"differs from the kept run's {100 * other.scores['avg_at_k']:.2f}"
        yield f"{name:44} avg@k {score:.2f}  {verdict}"


def _row(result: Result) -> dict[str, Any]:
    credits = {
        role: {name: [_rounded(value) for value in values] for name, values in fields.items()}
        for role, fields in result.credits.items()
    }
    return {
        "run": result.trial.name,
        "scores": {name: _rounded(value) for name, value in result.scores.items()},
        "tokens": result.tokens.astype(int).tolist(),
        "curves": {name: [_rounded(value) for value in curve] for name, curve in result.curves.items()},
        **({"credits": credits} if credits else {}),
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _values(history: Mapping[int, float], steps: Sequence[int]) -> NDArray[np.float64]:
    return np.array([history.get(step, np.nan) for step in steps])
