"""`fipo doctor`: what works is measured, what is not there is no fault, and what hangs or crashes is said."""

import json
import platform
import subprocess
import sys
import time

import psutil
import pytest
import torch

from fipo import doctor
from fipo.check import Check
from fipo.check.look import Look
from fipo.cli import main
from fipo.config import load_config
from fipo.distributed.packed_attention import packed_attention
from fipo.doctor import devices, kernels, machine, workers
from fipo.errors import WRONG_SETTINGS
from fipo.findings import Finding, failed
from fipo.run.run import Run
from tests.training.conftest import RECIPE


@pytest.fixture
def look(tmp_path):
    with Look(load_config(RECIPE, [f"run.directory={tmp_path / 'runs'}"])) as one:
        yield one


@pytest.fixture
def time_enough(monkeypatch):
    """However busy the machine is."""
    monkeypatch.setattr(workers, "SECONDS", 400.0)
    workers._end.cache_clear()
    yield
    workers._end.cache_clear()


def nvidia_smi(folder, script):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.slow
def test_a_machine_without_gpus_is_well(tmp_path, time_enough, capsys):
    settings = ["--set", f"run.directory={tmp_path}", "--set", "distributed.processes=2"]
    main(["doctor", "--recipe", str(RECIPE), *settings, "--json"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {one["check"]: one for one in told["checks"]}
    assert told["ok"], told
    assert found["Future-KL"]["status"] == ("ok" if torch.cuda.is_available() else "not here")
    assert {found[name]["status"] for name in ("attention", "ranks", "engine", "model", "store")} == {"ok"}
    assert "2 ranks by gloo" in found["ranks"]["found"] and "is admitted" in found["model"]["found"]


def test_a_jobs_machine_is_looked_at_once_and_its_ranks_together(tmp_path):
    config = load_config(RECIPE, [f"run.directory={tmp_path}"])
    worker = tmp_path / "worker.py"
    worker.write_text(
        "from fipo.doctor import job\n"
        "job.CHECKS = [one for one in job.CHECKS if one.name in ('disk', 'ranks')]\n"
        "job.main()\n"
    )
    command = [sys.executable, "-m", "fipo.launch.node", "--standalone", "--nproc-per-node", "2", str(worker)]
    settings = Run(config).write_settings()
    done = subprocess.run([*command, "--config", str(settings)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [Finding(**one) for one in json.loads((config.run_directory / "doctor.json").read_text())]
    assert [one.check for one in told] == [f"{platform.node()}: disk", "ranks"]
    assert "2 ranks by gloo" in told[1].found and "| ranks | ok | 2 ranks" in devices.page(told)


def test_a_job_that_waits_for_gpus_has_the_time_that_the_settings_say(tmp_path, monkeypatch):
    settings = [f"run.directory={tmp_path}", "trainjob.gpus_per_node=8", "trainjob.time_limit_seconds=1234"]
    config, asked = load_config(RECIPE, settings), []

    def run_job(module, arguments, placed, **_):
        asked.append(placed)
        devices.report_path(config).write_text("[]")

    monkeypatch.setattr(devices, "run_job", run_job)
    assert devices.examine_devices(config, ["train"], {}) == []
    (placed,) = asked
    assert (placed.trainjob.time_limit_seconds, placed.distributed.max_restarts) == (1234, 0)


def test_a_job_that_hangs_ends_itself():
    script = "import time; from fipo.doctor import job; job.end_after(0.1); time.sleep(600)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == WRONG_SETTINGS and "has not finished in 0.1 s" in done.stderr


def test_a_worker_is_no_rank_of_the_job_that_started_it(time_enough, monkeypatch):
    """Trainer's `PET_NNODES` would have torchrun on one machine wait for others."""
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "PET_NNODES", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "7")
    script = "import os; print([name for name, value in os.environ.items() if value == '7']); raise SystemExit(1)"
    [found] = workers._findings("ranks", ["-c", script])
    assert found.found == "exit code 1: []"


def test_every_check_is_there_once():
    assert len({one.name for one in doctor.CHECKS}) == len(doctor.CHECKS)
    assert {"store", "MLflow"} <= {one.name for one in doctor.CHECKS}


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        (None, "not here", "no GPU (no nvidia-smi)"),
        ("echo 'NVIDIA H100 80GB HBM3, 81559 MiB, 570.86.15'", "ok", "1 GPU(s): NVIDIA H100 80GB HBM3, 81559 MiB, 570"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "failed", "version mismatch"),
    ],
)
def test_gpus_are_those_of_the_driver(script, status, words, look, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    if script:
        nvidia_smi(tmp_path, script)
    [found] = machine.devices(look)
    assert found.status == status and words in found.found
    assert failed([found]) == (status == "failed")


def test_a_compiler_is_missed_where_gpus_are(look, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert next(machine.compiler(look)).status == "not here"
    nvidia_smi(tmp_path, "true")
    assert next(machine.compiler(look)).status == "warning"
    nvidia_smi(tmp_path, "true")
    (tmp_path / "gcc").symlink_to("/bin/sh")
    assert next(machine.compiler(look)).status == "ok"


def test_the_disk_is_written_and_left_as_it_was(look, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "BYTES", 4 << 20)
    [found] = machine.disk(look)
    assert found.status in ("ok", "warning") and "MB/s" in found.found
    assert not list(tmp_path.iterdir())


def test_what_hangs_is_ended_with_all_that_it_started(monkeypatch):
    monkeypatch.setattr(workers, "SECONDS", 3.0)
    workers._end.cache_clear()
    script = (
        'import subprocess, sys, time; print(\'fipo-doctor: ["a", "ok", "b", ""]\', flush=True);'
        "subprocess.Popen(['sleep', '4321']); time.sleep(4321)"
    )
    began = time.monotonic()
    first, late = workers._findings("kernels", ["-c", script])
    workers._end.cache_clear()
    assert time.monotonic() - began < 60
    assert (first.check, first.found) == ("a", "b") and late.status == "warning" and "3 s" in late.found
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "4321"]]


def test_what_crashes_is_told_with_its_last_line(time_enough):
    [found] = workers._findings("ranks", ["-c", "print('no route to host'); raise SystemExit(3)"])
    assert (found.status, found.found) == ("failed", "exit code 3: no route to host")
    [found] = workers._findings("ranks", ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"])
    assert found.status == "failed" and "-11" in found.found


def test_attention_that_sees_across_sequences_is_found(monkeypatch):
    assert kernels._attention(torch.device("cpu")).status == "ok"
    packed = packed_attention

    def across(*tensors, cu_seq_lens_q, max_length_q, **how):
        ends = torch.tensor([0, 128], dtype=torch.int32)
        return packed(*tensors, cu_seq_lens_q=ends, max_length_q=128, **how)

    monkeypatch.setattr(kernels, "packed_attention", across)
    assert kernels._attention(torch.device("cpu")).status == "failed"


def test_it_ends_badly_when_something_is_wrong(tmp_path, monkeypatch, capsys):
    broken = Check("disk", "fipo.doctor.machine:disk")
    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--recipe", str(RECIPE), "--set", f"run.directory={tmp_path / 'file' / 'runs'}"])
    assert ended.value.code == 1
    assert "failed" in capsys.readouterr().out
