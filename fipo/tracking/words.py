"""What MLflow's pages say of fipo's experiments and runs, in Markdown."""

from __future__ import annotations

EXPERIMENTS = {
    "prepare": "Data sets as they were prepared: rows read, kept, removed and quarantined.",
    "sft": "Warm-ups on demonstrations. `sft/loss` should fall, then level off; `sft/validation_loss` is of others.",
    "train": "RL runs, one point a step. Look at `rollout/accuracy` and `rollout/response_tokens_mean` first, then at "
    "`train/influence_weight_std` (0: FIPO acts as DAPO) and `train/entropy`. Select runs to compare their curves.",
    "evaluate": "Benchmarks, answered by the warmed-up and the trained model: `eval/<benchmark>/avg_at_k` and lengths; "
    "the tables below `problems/` have every problem.",
    "gate": "Verdicts of the gate: whether a model may become the champion, and the evidence.",
    "register": "Versions of the registered model, each with its provenance.",
    "report": "Reports of finished runs.",
    "score": "Benchmarks, answered by models that were not trained here.",
}
"""By step, of which `<prefix>/<step>` holds the runs."""
WHOLE = (
    "One run a pipeline run: its settings, the final scores, the model and `report.html` (artifacts), which grows with "
    "it. Its steps are its children, each kind in an experiment of its own: "
)
KUBEFLOW = "Kubeflow run "
"""Begins the line of a run's description that leads to Kubeflow's."""


def about(experiment: str) -> str:
    """The description of an experiment by its name: `fipo/train`, or `fipo` for the whole runs."""
    prefix, _, step = experiment.rpartition("/")
    if step in EXPERIMENTS and prefix:
        return EXPERIMENTS[step]
    return WHOLE + ", ".join(f"`{experiment}/{name}`" for name in EXPERIMENTS) + "."


def described(before: str, text: str) -> str:
    """The description with `text` in place of all but the line that leads to Kubeflow's run."""
    return "\n\n".join([*link_of(before), text])


def link_of(description: str) -> list[str]:
    """The line that leads to Kubeflow's run, if there is one."""
    return [line for line in description.splitlines() if line.startswith(KUBEFLOW)]
