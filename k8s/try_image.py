"""Run steps in the image as a pod would: no root, no capabilities, a read-only root file system, /tmp and one volume.

    python k8s/try_image.py IMAGE [FLAG for podman run ...]

`prepare` is started by the very command of the compiled pipeline, `sft` by torchrun, as in a TrainJob.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RESTRICTED = [
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--user=10001:10001"),
    *("--cap-drop=all", "--security-opt=no-new-privileges", "--network=none"),
]
PROBE = """
set -e
test "$(id -u)" = 10001
grep -q 'CapEff:.0000000000000000' /proc/self/status
if touch /opt/fipo/written 2>/dev/null; then echo "the root file system is writable"; exit 1; fi
# With CUDA, Triton compiles its launchers.
without="pip make"
python -c 'import sys, torch; sys.exit(torch.version.cuda is None)' || without="$without gcc"
for tool in $without; do
  if command -v $tool; then echo "$tool is in the image"; exit 1; fi
done
python -m pipelines reap --help >/dev/null
mlflow --version
"""


def main(image: str, *flags: str) -> None:
    """Raises CalledProcessError where a command fails."""
    podman = shlex.split(os.environ.get("PODMAN", "podman"))
    with tempfile.TemporaryDirectory() as volume:
        Path(volume).chmod(0o777)
        (Path(volume) / "tiny.yaml").write_bytes((ROOT / "tests" / "pipelines" / "tiny.yaml").read_bytes())

        def run(*command: str, entrypoint: str) -> None:
            started = [*podman, "run", "--rm", *RESTRICTED, f"--volume={volume}:/runs", f"--entrypoint={entrypoint}"]
            subprocess.run([*started, *flags, image, *command], check=True)

        run("-c", PROBE, entrypoint="sh")
        program, *arguments = _prepare()
        run(*arguments, entrypoint=program)
        artifacts = json.loads((Path(volume) / "output.json").read_text())["artifacts"]
        assert artifacts["metrics"]["artifacts"][0]["metadata"]["data/train"] > 0
        run("sft", "--recipe=/runs/tiny.yaml", "--set=run.directory=/runs", entrypoint="fipo")
    print(f"{image}: prepare and sft ran without root, on a read-only file system")


def _prepare() -> list[str]:
    """The task's command, with what Kubeflow's launcher puts in for `{{$}}`."""
    pipeline = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / "fipo_training.yaml").read_text()))
    container = pipeline["deploymentSpec"]["executors"]["exec-prepare"]["container"]
    outputs = pipeline["components"]["comp-prepare"]["outputDefinitions"]["artifacts"]
    artifacts = {
        name: {"artifacts": [{"name": name, "type": output["artifactType"], "uri": f"/runs/{name}", "metadata": {}}]}
        for name, output in outputs.items()
    }
    task = {
        "inputs": {"parameterValues": {"recipe": "/runs/tiny.yaml", "overrides": ["run.directory=/runs"]}},
        "outputs": {"outputFile": "/runs/output.json", "artifacts": artifacts},
    }
    given = [json.dumps(task) if argument == "{{$}}" else argument for argument in container["args"]]
    return [*container["command"], *given]


if __name__ == "__main__":
    main(*sys.argv[1:])
