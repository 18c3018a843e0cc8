"""Copies of checkpoints in the object store: sent in the background, and brought back to a machine that has none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fipo.distributed.checkpoints import COMMIT, Commit, checkpoint_path, committed
from fipo.distributed.retention import Retention
from fipo.errors import StorageError
from fipo.storage import ObjectStore, delete_directory, download_directory, upload_directory
from fipo.storage.directory import MANIFEST


class Mirror:
    """Keeps under `prefix` the checkpoints of `folder` that `retention` keeps; one thread, the newest first.

    Training never waits for it, and no failure of the store ends training: it is counted, told, and tried again with
    the next checkpoint.
    """

    def __init__(
        self, store: ObjectStore, prefix: str, folder: Path, retention: Retention, say: Callable[[str], None]
    ) -> None:
        self.failures = 0
        """Uploads that the store refused."""
        self.uploaded_step = 0
        """Newest checkpoint that this process sent."""
        self.sending: int | None = None
        """Checkpoint whose local files are being read."""
        self._store, self._prefix, self._folder = store, prefix, folder
        self._retention, self._say = retention, say
        self._changed, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="checkpoint-mirror", daemon=True)
        self._thread.start()

    def update(self) -> None:
        """Have the thread look for what is new; returns at once."""
        self._changed.set()

    def commits(self) -> dict[int, Commit]:
        """The checkpoints in the store by step.

        Raises:
            StorageError: it cannot be read.
        """
        keys = [info.key for info in self._store.list(f"{self._prefix}/")]
        folders = [key.removesuffix(MANIFEST) for key in keys if key.endswith(f"/{MANIFEST}")]
        commits = (Commit.parse(self._store.get(f"{folder}{COMMIT}")) for folder in folders)
        return {commit.step: commit for commit in commits if commit}

    def download(self, step: int) -> None:
        """Bring checkpoint `step` to the local folder; files that are there and right stay.

        Raises:
            StorageError: it is missing or damaged.
        """
        download_directory(self._store, self._key(step), checkpoint_path(self._folder, step))

    def close(self, seconds: float) -> None:
        """Wait so long for what is being sent; the rest is sent when the step runs again."""
        self._closing = True
        self._changed.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"checkpoint {self.sending} is not in {self._store.uri} yet: it is sent when the step runs again")

    def _run(self) -> None:
        closing = False
        while not closing:
            self._changed.wait()
            self._changed.clear()
            closing = self._closing
            try:
                while self._send_one():
                    pass
            except (StorageError, OSError) as error:
                self.failures += 1
                self._say(f"warning: a checkpoint could not be sent to the object store, training goes on: {error}")

    def _send_one(self) -> bool:
        """Send the newest checkpoint that the store should have and has not; without one, tidy up, and return False."""
        remote, local = self.commits(), committed(self._folder)
        kept = self._retention.kept({step: commit.score for step, commit in (remote | local).items()})
        wanted = [step for step in kept & local.keys() if step not in remote or remote[step].files != local[step].files]
        if not wanted:
            for step in remote.keys() - kept:
                delete_directory(self._store, self._key(step))
            return False
        self.sending = max(wanted)
        try:
            upload_directory(self._store, checkpoint_path(self._folder, self.sending), self._key(self.sending))
            self.uploaded_step = max(self.uploaded_step, self.sending)
        finally:
            self.sending = None
        return True

    def _key(self, step: int) -> str:
        return f"{self._prefix}/{checkpoint_path(self._folder, step).name}"
