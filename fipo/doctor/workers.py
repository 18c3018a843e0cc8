"""What could crash, hang or take a GPU's memory: tried in processes of their own, each within its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from fipo.check.look import Look
from fipo.findings import Finding
from fipo.launch.local import end_with_parent

MARK = "fipo-doctor: "
"""Before a finding on a worker's output."""
_TORCHRUN = (
    *("PET_", "TORCHELASTIC_", "GROUP_", "ROLE_"),
    *("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
)
SECONDS = 50.0
"""For all of them, one after the other, so that the doctor ends within a minute; a busy machine may need more."""


def kernels(look: Look) -> Iterator[Finding]:
    """Triton's kernel against torch, attention over packed rows, matrix products and copies."""
    yield from _findings("kernels", ["-m", "fipo.doctor.kernels"])


def ranks(look: Look) -> Iterator[Finding]:
    """Sums over the ranks of this machine: whether they come, and how fast."""
    processes = look.config.distributed.processes
    count = str(processes) if processes else "gpu" if _has_gpu() else str(min(2, len(os.sched_getaffinity(0))))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, "-m", "fipo.doctor.ranks"]
    yield from _findings("ranks", launcher)


def model(look: Look) -> Iterator[Finding]:
    """The recipe's model, if it is here and small enough for a minute: engine, weights' way into it, admission."""
    with tempfile.TemporaryDirectory(prefix="fipo-doctor-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(look.config.to_yaml(), encoding="utf-8")
        yield from _findings("model", ["-m", "fipo.doctor.model", str(config)])


@cache
def _end() -> float:
    """When the time is over, from the first worker on."""
    return time.monotonic() + SECONDS


def tell(finding: Finding) -> None:
    """Of a worker: what it found."""
    told = [finding.check, finding.status, finding.found, finding.remedy]
    print(f"{MARK}{json.dumps(told)}", flush=True)


def _findings(name: str, arguments: Sequence[str]) -> list[Finding]:
    """What a worker tells, and how it ended where that was not well."""
    # Of a rank of the job that the doctor may itself be in, a worker is none.
    own = {name: value for name, value in os.environ.items() if not name.startswith(_TORCHRUN)}
    environment = {"OMP_NUM_THREADS": "1", **own}
    # A session of its own: at the end of its time nothing of it may stay.
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
        preexec_fn=end_with_parent(),
    )  # fmt: skip
    late = False
    try:
        output, _ = process.communicate(timeout=max(1.0, _end() - time.monotonic()))
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
    lines = output.splitlines()
    found = [Finding(*json.loads(line.removeprefix(MARK))) for line in lines if line.startswith(MARK)]
    if late:
        return [*found, Finding(name, "warning", f"not done when the {SECONDS:g} s for all were over")]
    if process.returncode:
        last = next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith(MARK)), "")
        return [*found, Finding(name, "failed", f"exit code {process.returncode}: {last[:300]}")]
    return found


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists()
