"""`python -m fipo.rollout.served.server MODEL`: a rollout server, vLLM with the settings that the trainer relies on.

The secret that trainer and servers share is taken from the environment, `FIPO_ROLLOUT_TOKEN`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, NoReturn

from fipo.errors import ConfigError
from fipo.rollout.served.guard import TOKEN_VARIABLE


def server_command(
    model: str, *, host: str, port: int, context: int, dtype: str, tensor_parallel: int, transfer: str
) -> list[str]:
    """The command line of vLLM's server.

    Args:
        model: a name of the hub or a folder, of which the architecture counts; the trainer sends the weights.
        host: address to listen on: the job's own network, never the world.
        port: port to listen on.
        context: tokens of prompt and response at most.
        dtype: of weights and computation, as the trainer's.
        tensor_parallel: GPUs that share one copy of the model.
        transfer: how weights arrive: `nccl`, or `gloo` where there are no GPUs.
    """
    options: dict[str, object] = {
        "host": host,
        "port": port,
        "max-model-len": context,
        "dtype": dtype,
        "load-format": "dummy",
        "tensor-parallel-size": tensor_parallel,
        "logprobs-mode": "processed_logprobs",
        "hf-overrides": json.dumps({"head_dtype": "float32"}),
        "generation-config": "vllm",
        "weight-transfer-config": json.dumps({"backend": transfer}),
        "middleware": "fipo.rollout.served.guard.Guard",
    }
    flags = ["--tokens-only", "--disable-uvicorn-access-log", "--no-enable-log-requests"]
    if transfer == "gloo":
        options |= {"worker-extension-cls": "fipo.rollout.served.gloo.GlooWorker"}
        # With chunks, seeded requests fail on a CPU: its random generators cannot be wound back.
        options |= {"max-num-batched-tokens": max(context, 8192)}
        # vLLM's default would be all the machine's memory.
        options |= {"gpu-memory-utilization": 0.3}
        flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *named, *flags]


def serve(model: str, **settings: Any) -> NoReturn:
    """Become the server, with the settings of `server_command`.

    Raises:
        ConfigError: FIPO_ROLLOUT_TOKEN is not set.
    """
    if not os.environ.get(TOKEN_VARIABLE):
        raise ConfigError(f"{TOKEN_VARIABLE}: must hold the secret that trainer and rollout servers share; it is empty")
    # The routes for weight updates exist in development mode only; the guard keeps others off them.
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    command = server_command(model, **settings)
    sys.stdout.flush()
    os.execv(command[0], command)


def add_address(parser: argparse.ArgumentParser) -> None:
    """`--host` and `--port`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")


def main() -> None:
    """Serve a model with settings from the command line."""
    parser = argparse.ArgumentParser(prog="python -m fipo.rollout.served.server", description=__doc__)
    parser.add_argument("model", help="a name of the hub or a folder")
    add_address(parser)
    parser.add_argument("--context", type=int, required=True, help="tokens of prompt and response at most")
    parser.add_argument("--dtype", default="bfloat16", help="of weights and computation (default: bfloat16)")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="GPUs that share one copy of the model")
    parser.add_argument("--transfer", choices=["nccl", "gloo"], default="nccl", help="gloo: without GPUs")
    try:
        serve(**vars(parser.parse_args()))
    except ConfigError as error:
        print(f"rollout server: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
