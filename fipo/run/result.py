"""What a finished step leaves behind, as it is stored."""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fipo.errors import StorageError
from fipo.redaction import redact

Record = TypeVar("Record")


class DamagedResult(StorageError):
    """The stored result of a step cannot be read."""


@dataclass(frozen=True, slots=True)
class Output:
    """A folder that a step published."""

    uri: str
    """Object-store URI of the folder."""
    sha256: str
    """Digest over the names and contents of its files."""
    parts: dict[str, str] = field(default_factory=dict)
    """The same of those files that some steps read and others do not, by the name of the part."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a finished step left behind."""

    step: str
    fingerprint: str
    """Identity of settings and inputs (hex)."""
    seconds: float
    """Wall time of the attempt that finished."""
    outputs: dict[str, Output] = field(default_factory=dict)
    settings: str = ""
    """Digest (hex) of the settings that count for it."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Digest of each thing that it read, by name: `prepare/dataset`, `data.train[0]`."""
    metrics: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    """What later steps and readers need besides, as JSON; `read` makes of it the record that it is."""
    run: str = ""
    """Name of the run that computed it."""
    code: str = ""
    """Digest (hex) of fipo's sources that computed it."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python and the packages that computed it."""
    mlflow_run_id: str = ""
    mlflow_url: str = ""
    pipeline_run: str = ""
    """Id of Kubeflow's run that computed it; empty for a run without Kubeflow."""
    finished: str = ""
    """When it was committed: ISO 8601, UTC."""
    continued: list[str] = field(default_factory=list)
    """Where settings changed on the way (`fipo.run.continuation`), in words; empty for one of the same all along."""
    reused: bool = False
    """Whether this call found the result instead of computing it."""

    def read(self, kind: type[Record]) -> Record:
        """What the step reported, as the dataclass that it is: its own, named where it is defined.

        Raises:
            DamagedResult: it is something else.
        """
        try:
            return TypeAdapter(kind).validate_python(self.record)
        except ValidationError as error:
            raise DamagedResult(f"{self.step}: not the record of this step ({error.error_count()} faults)") from None

    def to_json(self, run: str) -> str:
        """As stored below `run`, a URI: outputs in the same store stand relative to the result, so that a run, or the
        store, can be moved or copied."""
        tree = asdict(self)
        for output in tree["outputs"].values():
            output["uri"] = _relative(output["uri"], self._place(run))
        tree = json.loads(redact(json.dumps(tree)))
        return json.dumps(tree | {"sha256": digest(tree)}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, run: str, *, reused: bool = False) -> StepResult:
        """From what `to_json` gave, found below `run`.

        Raises:
            DamagedResult: it is something else.
        """
        try:
            tree = json.loads(text)
            if (expected := tree.pop("sha256", "")) and expected != digest(tree):  # old ones have none
                raise ValueError("its digest is not that of its contents")
            outputs = {name: Output(**output) for name, output in tree.pop("outputs").items()}
            found = cls(**{**tree, "reused": reused})
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise DamagedResult(f"not the result of a step: {error!r}") from None
        place = found._place(run)
        here = {name: replace(output, uri=_absolute(output.uri, place)) for name, output in outputs.items()}
        return replace(found, outputs=here)

    def _place(self, run: str) -> str:
        return f"{run}/{self.step}/{self.fingerprint[:12]}"


def digest(tree: Any) -> str:
    """SHA-256 (hex) of what JSON can hold."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _relative(uri: str, place: str) -> str:
    (scheme, _, path), (own, _, here) = uri.partition("://"), place.partition("://")
    shared = scheme == own and path.split("/")[0] == here.split("/")[0]
    return posixpath.relpath(path, here) if shared else uri


def _absolute(uri: str, place: str) -> str:
    if "://" in uri:
        return uri
    scheme, _, path = place.partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(path, uri))}"
