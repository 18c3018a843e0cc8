"""The charts of an experiment in MLflow in an order of ours: accuracy and length first, housekeeping last.

MLflow's own page sorts charts by name. A view that somebody shares, charts and sections in their order, is a tag of the
experiment, and an address with the tag's name opens it: this is such a view, made ahead.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fipo.tracking.metric_names import METRICS

NAME = "fipo"
TAG = f"mlflow.sharedViewState.{NAME}"
_ADDRESS = "#/experiments/{id}/runs?compareRunsMode=CHART&viewStateShareKey=" + NAME

OWN = {"train": ("train", "rollout", "validation"), "sft": ("sft",)}
"""Prefixes of the metrics that an experiment's runs have a curve of, by the step that they are of."""
FIRST = (
    "rollout/accuracy", "rollout/response_tokens_mean", "train/influence_weight_std", "validation/accuracy",
    "validation/response_tokens_mean", "rollout/truncated_fraction", "rollout/unparsed_fraction", "train/entropy",
    "rollout/reward_mean", "rollout/signal_fraction", "train/loss", "train/grad_norm", "sft/loss",
    "sft/validation_loss",
)  # fmt: skip
LAST = (
    "train/learning_rate", "train/updates", "train/skipped_updates", "train/steps_without_signal", "train/loss_tokens",
    "rollout/sampled_batches", "rollout/trained_prompts", "rollout/sampled_tokens", "rollout/staleness_mean",
    "rollout/staleness_max", "rollout/timeout_fraction", "sft/learning_rate", "sft/skipped_updates",
)  # fmt: skip
"""Settings, counters, and what is the same in every step of a run without faults."""
_FOLDED = ("Housekeeping", "perf", "checkpoint", "system")
_LINE = {
    "type": "LINE", "runsCountToCompare": 10, "deleted": False, "isGenerated": True, "lineSmoothness": 0,
    "xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "xAxisKey": "step", "selectedXAxisMetricKey": "",
    "yAxisKey": "metric", "yAxisExpressions": [], "ignoreOutliers": False, "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}  # fmt: skip
"""A chart of one metric, as MLflow's page stores it."""


def address_of(experiment_id: str) -> str:
    """Of the view, below MLflow's own."""
    return _ADDRESS.format(id=experiment_id)


def tag_of(experiment: str) -> dict[str, str]:
    """The view of an experiment by its name, as its tag; none where its runs have no curves.

    The value is JSON, compressed as MLflow does it, since a tag holds 5,000 characters.
    """
    sections = _sections(OWN.get(experiment.rpartition("/")[2], ()))
    if not sections:
        return {}
    view = {
        "compareRunCharts": [_chart(metric, section) for section, metrics in sections.items() for metric in metrics],
        "compareRunSections": [_section(name, folded=name in _FOLDED) for name in sections],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }
    return {TAG: f"deflate;{base64.b64encode(zlib.compress(json.dumps(view).encode(), 9)).decode()}"}


def _sections(own: Sequence[str]) -> Mapping[str, list[str]]:
    """Metrics by section; a metric that is not here gets a chart from MLflow, after them."""
    if not own:
        return {}
    found = {"First": [name for name in FIRST if name.split("/")[0] in own]}
    for prefix in own:
        found[prefix] = [name for name in _of(prefix) if name not in (*FIRST, *LAST)]
    found["Housekeeping"] = [name for name in LAST if name.split("/")[0] in own]
    return found | {prefix: list(_of(prefix)) for prefix in _FOLDED[1:]}


def _of(prefix: str) -> Iterator[str]:
    """The metrics of a prefix that are no family."""
    return (one.name for one in METRICS if one.name.startswith(f"{prefix}/") and "<" not in one.name)


def _section(name: str, *, folded: bool) -> dict[str, Any]:
    # A section that counts as ordered is not sorted again.
    return {"uuid": f"fipo-{name}", "name": name, "display": not folded, "isReordered": True, "isGenerated": True}


def _chart(metric: str, section: str) -> dict[str, Any]:
    shown = metric if section in ("First", "Housekeeping") else metric.split("/", 1)[1]
    return {
        **_LINE, "uuid": f"fipo-{metric}", "metricSectionId": f"fipo-{section}", "metricKey": metric,
        "displayName": shown,
    }  # fmt: skip
