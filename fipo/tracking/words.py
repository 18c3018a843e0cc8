"""What MLflow's pages say of fipo's experiments and runs. Its lists show the first words of it, as they are written."""

from __future__ import annotations

EXPERIMENTS = {
    "prepare": "Prepared data sets: rows read, kept, removed and quarantined.",
    "sft": "Warm-ups on demonstrations: sft/loss should fall, then level off; sft/validation_loss is of held-out rows.",
    "train": "RL runs, one point a step. First look at rollout/accuracy and rollout/response_tokens_mean, then at "
    "train/influence_weight_std (0: FIPO acts as DAPO) and train/entropy. Select runs to compare their curves.",
    "evaluate": "Benchmark scores, warmed up and trained: eval/(benchmark)/avg_at_k and lengths; the tables below "
    "problems/ have every problem.",
    "gate": "Verdicts of the gate: may a model become the champion, and the evidence.",
    "register": "Registered versions, each with its provenance.",
    "report": "Reports of finished runs.",
    "score": "Benchmark scores of models that were not trained here.",
}
"""By step, of which `<prefix>/<step>` holds the runs."""
WHOLE = (
    "Whole runs: settings, final scores, the model, and report.html among the artifacts, which grows with the run. The "
    "steps are their children, each kind in an experiment of its own: "
)
KUBEFLOW = "Kubeflow run "
"""Begins the line of a run's description that leads to Kubeflow's."""


def about(experiment: str, charts: str) -> str:
    """The description of an experiment by its name, `fipo` for the whole runs; `charts` leads to its own."""
    prefix, _, step = experiment.rpartition("/")
    if step in EXPERIMENTS and prefix:
        told = EXPERIMENTS[step]
    else:
        told = WHOLE + ", ".join(f"{experiment}/{name}" for name in EXPERIMENTS) + "."
    return f"{told}\n\n[Charts, what matters first]({charts})" if charts else told


def described(before: str, text: str) -> str:
    """The description with `text` in place of all but the line that leads to Kubeflow's run."""
    return "\n\n".join([*link_of(before), text])


def link_of(description: str) -> list[str]:
    """The line that leads to Kubeflow's run, if there is one."""
    return [line for line in description.splitlines() if line.startswith(KUBEFLOW)]
