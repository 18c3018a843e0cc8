"""What makes a step's result what it is: settings that change it, and the contents of what it reads.

The same identity is the same result, so that it can be taken as it is; another one is computed anew. Names say nothing:
a file counts by its bytes, an output of an earlier step by its digest. So a step that is run again reaches later ones
when its output differs, and only then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fipo.config import Config, Role
from fipo.files import replacing
from fipo.inputs import external_inputs
from fipo.run.result import StepResult, digest
from fipo.run.step import STEPS


@dataclass(frozen=True, slots=True)
class Identity:
    """Of one step of one run."""

    fingerprint: str
    """Digest (hex) of settings and inputs."""
    lineage: str
    """The same, however far the step goes: a longer run continues from the checkpoints of the shorter one."""
    settings: str
    """Digest (hex) of the settings that count."""
    inputs: Mapping[str, str]
    """Digest of each thing that is read, by name."""
    upstream: Mapping[str, str]
    """Fingerprints of the results that it builds on, by step."""

    @classmethod
    def of(cls, config: Config, step: str, upstream: Mapping[str, StepResult]) -> Identity:
        """That of a step on these results.

        Raises:
            DataError: something that it reads from outside is not there.
        """
        outside = external_inputs(config, step, cache=config.run.directory / "digests.json")
        inputs = {entry: _digest_of(entry, upstream) for entry in STEPS[step].reads}
        inputs |= {name: found.digest for name, found in outside.items()}
        settings = digest(identity_settings(config, step))
        return cls(
            fingerprint=digest([step, settings, inputs]),
            lineage=digest([step, identity_settings(config, step, Role.LENGTH), inputs]),
            settings=settings,
            inputs=inputs,
            upstream={name: result.fingerprint for name, result in upstream.items()},
        )

    def write(self, path: Path) -> None:
        """For the processes of a job, which need not find out again."""
        with replacing(path, private=True) as unfinished:
            unfinished.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Identity:
        """What `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def identity_settings(config: Config, step: str, *also_without: Role) -> dict[str, Any]:
    """The settings that change the step's result, but those of the roles `also_without`."""
    own = STEPS[step]
    left_out = [Role.PLACEMENT, *also_without]
    left_out += [role for role, counts in ((Role.MEASURING, own.measures), (Role.GRADING, own.grades)) if not counts]
    return {section: getattr(config, section).without(*left_out) for section in own.sections}


def fits(result: StepResult, config: Config, newest: Mapping[str, StepResult]) -> bool:
    """Whether a result is of these settings and of the newest results of earlier steps, as far as the store tells."""
    entries = STEPS[result.step].reads
    if result.settings != digest(identity_settings(config, result.step)):
        return False
    return all(
        entry.partition("/")[0] in newest and result.inputs.get(entry) == _digest_of(entry, newest) for entry in entries
    )


def _digest_of(entry: str, upstream: Mapping[str, StepResult]) -> str:
    step, _, name = entry.partition("/")
    return digest_in(upstream[step], name)


def digest_in(result: StepResult, name: str) -> str:
    """Digest of an output, or of a part of one, `output:part`; a result without that output stands for itself."""
    output, _, part = name.partition(":")
    if output not in result.outputs:
        return result.fingerprint
    found = result.outputs[output]
    return found.parts.get(part, found.sha256)
