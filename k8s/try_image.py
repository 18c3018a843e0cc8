"""Run steps in the image as a pod would: no root, no capabilities, a read-only root file system, /tmp and one volume.

    python -m k8s.try_image IMAGE [FLAG for podman run ...]

`configure` and `prepare` are started by the very commands of the compiled pipeline, `sft` by torchrun as in a TrainJob.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import executor

ROOT = Path(__file__).parents[1]
RESTRICTED = [
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--user=10001:10001"),
    *("--cap-drop=all", "--security-opt=no-new-privileges", "--network=none"),
]
PROBE = """
set -e
test "$(id -u)" = 10001
grep -q 'CapEff:.0000000000000000' /proc/self/status
for folder in /opt/torch /opt/fipo /opt/app; do
  if touch $folder/written 2>/dev/null; then echo "the root file system is writable"; exit 1; fi
done
# With CUDA, Triton compiles its launchers.
without="pip make"
python -c 'import sys, torch; sys.exit(torch.version.cuda is None)' || without="$without gcc"
for tool in $without; do
  if command -v $tool; then echo "$tool is in the image"; exit 1; fi
done
# What is imported was compiled when the image was built: nothing could keep it now.
python -v -c 'import torch, mlflow, fipo.run.run' 2>&1 | grep -c 'code object from /opt' >/tmp/compiled || true
test "$(cat /tmp/compiled)" = 0 || { echo "$(cat /tmp/compiled) modules are compiled at every start"; exit 1; }
python -m fipo_kfp.pipelines reap --help >/dev/null
mlflow --version
"""
SETTINGS = ["run.directory=/runs"]


def main(image: str, *flags: str) -> None:
    """Raises CalledProcessError where a command fails."""
    podman = shlex.split(os.environ.get("PODMAN", "podman"))
    with tempfile.TemporaryDirectory() as volume:
        Path(volume).chmod(0o777)
        (Path(volume) / "tiny.yaml").write_bytes((ROOT / "tests" / "pipelines" / "tiny.yaml").read_bytes())

        def run(*command: str, entrypoint: str) -> None:
            began = time.monotonic()
            started = [*podman, "run", "--rm", *RESTRICTED, f"--volume={volume}:/runs", f"--entrypoint={entrypoint}"]
            subprocess.run([*started, *flags, image, *command], check=True)
            print(f"{time.monotonic() - began:.1f} s", flush=True)

        run("-c", PROBE, entrypoint="sh")
        for task in ("configure", "prepare"):
            program, *arguments = executor.command(task, "/runs/tiny.yaml", SETTINGS, "/runs")
            run(*arguments, entrypoint=program)
        artifacts = json.loads((Path(volume) / "prepare.json").read_text())["artifacts"]
        metadata = {key: value for one in artifacts.values() for key, value in one["artifacts"][0]["metadata"].items()}
        assert metadata["dataset.sha256"]
        run("sft", "--recipe=/runs/tiny.yaml", "--set=run.directory=/runs", entrypoint="fipo")
    print(f"{image}: configure, prepare and sft ran without root, on a read-only file system")


if __name__ == "__main__":
    main(*sys.argv[1:])
