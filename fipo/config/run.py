"""What a run is called, where it works, where its results and metrics go, and the addresses for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from fipo.config.base import Name, Role, Section
from fipo.uris import check_server, check_store, check_tracking


class Run(Section):
    """What this run is called and where it works."""

    name: Annotated[Name, Role.PLACEMENT] = "run"
    """Names the folder, the object-store prefix and the MLflow runs."""
    recipe: Annotated[str, Role.PLACEMENT] = ""
    """Recipe that these settings began with; filled in when a recipe is read."""
    seed: int = Field(0, ge=0)
    """Determines data order, initial weights and sampling."""
    directory: Annotated[Path, Role.PLACEMENT] = Path("runs")
    """Local folder for work in progress, the summary and the report; `directory/name` is this run's."""

    @field_validator("directory")
    @classmethod
    def _is_plain(cls, directory: Path) -> Path:
        """MLflow's database is named by a URI, in which these would end the path."""
        if any(character in str(directory) for character in "?#"):
            raise ValueError(f"must be a path without ? and #, which would end MLflow's address; got {directory}")
        return directory


class Storage(Section):
    """Where data sets, weights and results are kept."""

    uri: Annotated[str, Role.PLACEMENT] = ""
    """`file:///folder` or `s3://bucket/prefix`, with copies of the checkpoints too; empty is the folder `objects` in
    `run.directory`, without them."""

    @field_validator("uri")
    @classmethod
    def _is_store(cls, uri: str) -> str:
        if uri:
            check_store(uri)
        return uri


class Tracking(Section):
    """Where metrics go."""

    uri: str = ""
    """An MLflow tracking URI; empty is `sqlite:///…/mlflow.db` in `run.directory`."""
    experiment_prefix: Annotated[str, Role.PLACEMENT] = "fipo"
    """Experiments are `<prefix>/<step>`: runs of one kind overlay in MLflow's comparison page."""

    also: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Role.PLACEMENT] = ()
    """Further places for metrics and settings, through their own packages: `tensorboard` writes to `run.directory`'s
    `tensorboard`, `wandb` where its own environment says. MLflow stays the record."""

    @field_validator("uri")
    @classmethod
    def _is_mlflow(cls, uri: str) -> str:
        if uri:
            check_tracking(uri)
        return uri


class Links(Section):
    """Addresses for people's browsers, where those that the run itself uses work only inside its cluster."""

    mlflow: Annotated[str, Role.PLACEMENT] = ""
    """Of MLflow, such as `https://mlflow.example.com`; empty is `tracking.uri`."""
    pipelines: Annotated[str, Role.PLACEMENT] = ""
    """Of Kubeflow Pipelines' UI, such as `https://kubeflow.example.com/pipeline`; empty leaves its links out."""

    @field_validator("mlflow", "pipelines")
    @classmethod
    def _is_web(cls, address: str) -> str:
        if address and not address.startswith(("http://", "https://")):
            raise ValueError(f"must be an address for browsers, http://... or https://...; got {address!r}")
        check_server(address, "a browser asks whoever opens the page")
        return address.rstrip("/")
