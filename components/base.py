"""How a component is declared.

`component` makes a lightweight Python component over fipo's own image, which already holds kfp and fipo: nothing is
installed when a task starts. The same declaration runs in a subprocess and in a pod.
"""

import os
from functools import partial

from kfp.dsl import TaskConfigField, TaskConfigPassthrough, component

IMAGE = os.environ.get("FIPO_IMAGE", "ghcr.io/fipo-rl/fipo:0.1.0")
"""Image of every task; `FIPO_IMAGE` names another when a pipeline is compiled."""

component = partial(component, base_image=IMAGE, install_kfp_package=False)

job_component = partial(
    component,
    task_config_passthroughs=[
        TaskConfigField.RESOURCES,
        TaskConfigField.KUBERNETES_TOLERATIONS,
        TaskConfigField.KUBERNETES_NODE_SELECTOR,
        TaskConfigField.KUBERNETES_AFFINITY,
        TaskConfigPassthrough(field=TaskConfigField.ENV, apply_to_task=True),
        TaskConfigPassthrough(field=TaskConfigField.KUBERNETES_VOLUMES, apply_to_task=True),
    ],
)
"""A component whose work runs in a TrainJob: its pods get what is set on the task, which itself only looks on."""
