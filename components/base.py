"""How a component is declared.

`component` makes a lightweight Python component over fipo's own image, which already holds kfp and fipo: nothing is
installed when a task starts. The same declaration runs in a subprocess and in a pod.
"""

import os
from functools import partial

from kfp import dsl

IMAGE = os.environ.get("FIPO_IMAGE", "ghcr.io/fipo-rl/fipo:0.1.0")
"""Image of every task; `FIPO_IMAGE` names another when a pipeline is compiled."""

component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
