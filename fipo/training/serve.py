"""A rollout server of a run: `python -m fipo.training.serve --config runs/NAME/config.yaml --host 0.0.0.0`.

It serves the architecture of the run's warmed-up model with the trainer's settings, to trainers that know its address
(`rollout.servers`, or FIPO_ROLLOUT_SERVERS in their environment) and the secret FIPO_ROLLOUT_TOKEN. The weights come
from them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from fipo.config import load_config
from fipo.distributed.engine import weights_dtype
from fipo.errors import FipoError
from fipo.rollout.factory import context_of, dtype_name, transfer_backend
from fipo.rollout.served.server import add_address, serve
from fipo.run.run import Run


def main() -> None:
    """Fetch the model and become its server."""
    parser = argparse.ArgumentParser(
        prog="python -m fipo.training.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of resolved settings")
    add_address(parser)
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config)
        # Any step that builds on it.
        folder = Run(config).step("score").input("sft", "model")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        serve(
            str(folder),
            host=arguments.host,
            port=arguments.port,
            context=context_of(config, folder),
            dtype=dtype_name(weights_dtype(config.distributed, device)),
            tensor_parallel=config.rollout.tensor_parallel,
            transfer=transfer_backend(),
        )
    except FipoError as error:
        print(f"[serve] {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
