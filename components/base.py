"""How a component is declared.

`component` makes a lightweight Python component over fipo's own image, which already holds kfp and fipo: nothing is
installed when a task starts. The same declaration runs in a subprocess and in a pod.
"""

import os
from functools import partial

from kfp import dsl
from kfp.dsl import TaskConfigField, TaskConfigPassthrough

import fipo

IMAGE = os.environ.get("FIPO_IMAGE", f"ghcr.io/fipo-rl/fipo:{fipo.__version__}")
"""Image of every task; `FIPO_IMAGE` names another when a pipeline is compiled."""

component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)

_PASSED_ON = (TaskConfigField.ENV, TaskConfigField.KUBERNETES_VOLUMES, TaskConfigField.RESOURCES)

job_component = partial(
    component,
    task_config_passthroughs=[TaskConfigPassthrough(field=field, apply_to_task=True) for field in _PASSED_ON],
)
"""A component whose work runs in a TrainJob: its pods get the task's environment and volume. The task's resources are
its own; Kubeflow wants them named here all the same."""
