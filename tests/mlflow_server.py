"""A real MLflow server to disturb."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.waiting import free_port, listens, wait_until


class Server:
    """`mlflow server` on the database of a folder; `kill` is kill -9 of all its processes."""

    def __init__(self, folder: Path, log: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._log, self._environment = log or folder / "server.log", environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def started(self) -> bool:
        """Whether it is meant to run."""
        return self._process is not None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--port", str(self.port)]
        command += ["--default-artifact-root", (self.folder / "artifacts").as_uri()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self._environment},
            )
        wait_until(lambda: listens(self.port))

    def kill(self) -> None:
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
