"""`python -m fipo.doctor.job --config FILE`, under torchrun as training will be: each machine, then all ranks together.

One rank of each machine looks at it and ends the job where something is wrong; the others wait for it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from fipo.check import check
from fipo.config import Config, Distributed, load_config
from fipo.distributed.bootstrap import is_lost_peer, join_world
from fipo.doctor import CHECKS
from fipo.doctor.devices import report_path
from fipo.doctor.ranks import measure
from fipo.errors import WRONG_SETTINGS
from fipo.files import replacing
from fipo.findings import Finding, failed, print_findings
from fipo.redaction import guard_output

TOGETHER = "ranks"
"""The check that the ranks of the job make themselves, over all machines."""
RUN_SECONDS = 1800.0
"""For all of it, from when it runs: how long it waits for its devices is the job's own time limit."""
TIMEOUT_SECONDS = 300.0
"""For ranks to come together: a machine is looked at for a minute, a busy one for longer."""


def main() -> None:
    """Tell what is found, and end with an exit code after which nobody tries again where something is wrong."""
    parser = argparse.ArgumentParser(description="One rank of the doctor's job, as torchrun starts it.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file of resolved settings")
    parser.add_argument("--gpus", action="store_true", help="each rank must have a GPU")
    options = parser.parse_args()
    guard_output()
    end_after(RUN_SECONDS)
    config = load_config(options.config)
    own = look_at_machine(config, gpus=options.gpus) if int(os.environ.get("LOCAL_RANK", "0")) == 0 else []
    try:
        with join_world(Distributed(timeout_seconds=TIMEOUT_SECONDS), seed=0) as world:
            together = measure(world)
            everywhere = [finding for machine in world.gather(own) for finding in machine]
            if world.is_main:
                print_findings([together])
                _write(report_path(config), [*everywhere, together])
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        together = Finding(TOGETHER, "failed", f"rank {os.environ['RANK']} lost the others: {error}")
        print_findings([together])
    _end_where_wrong([together])


def end_after(seconds: float) -> None:
    """End this process then, whatever hangs in it, as where something is wrong."""

    def end() -> None:
        what = f"{platform.node()} has not finished in {seconds:g} s: something hangs"
        print(f"[doctor] {what}", file=sys.stderr, flush=True)
        os._exit(WRONG_SETTINGS)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def look_at_machine(config: Config, *, gpus: bool) -> list[Finding]:
    """Every check but the one that ranks make together, GPUs first; it ends this process where one fails."""
    print(f"[doctor] {platform.node()}", flush=True)
    findings = [_gpus_of_ranks()] if gpus else []
    if not failed(findings):  # else the rest would only look at the CPU
        findings += check(config, [one for one in CHECKS if one.name != TOGETHER])[0]
    print_findings(findings)
    _end_where_wrong(findings)
    return [replace(one, check=f"{platform.node()}: {one.check}") for one in findings]


def _gpus_of_ranks() -> Finding:
    """As torch sees them: an image without CUDA sees none on the best of nodes."""
    found, ranks = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    said = f"torch {torch.__version__} sees {found} GPU(s), for {ranks} rank(s)"
    if found >= ranks:
        return Finding("GPUs", "ok", said)
    return Finding("GPUs", "failed", said, "an image with CUDA, a driver that fits it, trainjob.gpus_per_node")


def _end_where_wrong(findings: Sequence[Finding]) -> None:
    if failed(findings):
        wrong = [f"{one.check}: {one.found}" for one in findings if one.status == "failed"]
        print(f"[doctor] {platform.node()} cannot run this: {'; '.join(wrong)}", file=sys.stderr, flush=True)
        sys.exit(WRONG_SETTINGS)


def _write(path: Path, findings: Sequence[Finding]) -> None:
    with replacing(path, private=True) as unfinished:
        unfinished.write_text(json.dumps([asdict(one) for one in findings]), encoding="utf-8")


if __name__ == "__main__":
    main()
