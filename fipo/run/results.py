"""The committed results of a run, in its object store: each by its fingerprint, and which is the newest of its step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from fipo.config import Config
from fipo.errors import ObjectNotFound
from fipo.run.result import DamagedResult, StepResult
from fipo.run.step import STEPS
from fipo.storage import open_store


class Results:
    """Those of the run that `config` describes."""

    def __init__(self, config: Config) -> None:
        self._config, self.store = config, open_store(config.storage_uri)
        self.uri = f"{self.store.uri}/{config.run.name}"

    def at(self, step: str, fingerprint: str) -> StepResult | None:
        """The result of a step with these settings and inputs."""
        return self._read(self._key(step, fingerprint))

    def newest(self, step: str) -> StepResult | None:
        """The result of a step that was asked for last, whatever settings and inputs it came from."""
        return self._read(self._key(step))

    def all_newest(self) -> dict[str, StepResult]:
        """By step; steps without any are left out."""
        found = {step: self.newest(step) for step in STEPS}
        return {step: result for step, result in found.items() if result}

    def history(self, step: str) -> Iterator[StepResult]:
        """All results of a step, the newest first."""
        newest = self.newest(step)
        if newest:
            yield newest
        found = (self._read(info.key) for info in self.store.list(f"{self._config.run.name}/{step}/results/"))
        yield from sorted(filter(None, found), key=lambda result: result.finished, reverse=True)

    def put(self, result: StepResult) -> None:
        """Keep a result, and make it the newest of its step."""
        stored = replace(result, reused=False).to_json(self.uri).encode()
        self.store.put(self._key(result.step, result.fingerprint), stored)
        self.store.put(self._key(result.step), stored)

    def forget(self, step: str, fingerprint: str) -> None:
        """Remove a result, so that it is computed again; one that is damaged too."""
        newest = self.newest(step)
        if newest is None or newest.fingerprint == fingerprint:
            self.store.delete(self._key(step))
        self.store.delete(self._key(step, fingerprint))

    def _read(self, key: str) -> StepResult | None:
        """One that is damaged is none: it is computed again."""
        try:
            found = StepResult.from_json(self.store.get(key), self.uri, reused=True)
        except ObjectNotFound:
            return None
        except DamagedResult as error:
            print(f"{self.store.uri}/{key}: {error}; taken as absent", file=sys.stderr, flush=True)
            return None
        return replace(found, mlflow_url=self._config.mlflow_page(found.mlflow_url))

    def _key(self, step: str, fingerprint: str = "") -> str:
        name = f"results/{fingerprint[:12]}.json" if fingerprint else "result.json"
        return f"{self._config.run.name}/{step}/{name}"
