"""The model of the tests here: a tiny one, or with FIPO_PUBLISHED_MODEL the published one in that folder."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.published.model import make_tiny


@dataclass(frozen=True)
class Published:
    """A folder, and how much can be asked of what is in it."""

    folder: Path
    is_real: bool

    def sized(self, real, tiny):
        """What the published model gets, and what the tiny one."""
        return real if self.is_real else tiny


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    if named := os.environ.get("FIPO_PUBLISHED_MODEL"):
        return Published(Path(named), is_real=True)
    folder = tmp_path_factory.mktemp("published")
    make_tiny(folder)
    return Published(folder, is_real=False)
