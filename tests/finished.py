"""Steps that have finished, without their work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fipo.config import Config
from fipo.run.result import Output, StepResult
from fipo.run.run import Run
from fipo.run.workspace import Workspace


def finish(config: Config, step: str, outputs: Mapping[str, Output | Path], **fields: Any) -> Workspace:
    """Commit a step of the run that `config` describes; folders among its outputs are published."""
    workspace = Run(config).step(step)
    published = {
        name: workspace.publish(name, output) if isinstance(output, Path) else output
        for name, output in outputs.items()
    }
    settings, inputs = workspace.identity.settings, dict(workspace.identity.inputs)
    result = StepResult(step, workspace.fingerprint, 1.0, published, settings=settings, inputs=inputs, **fields)
    workspace.commit(result)
    return workspace
