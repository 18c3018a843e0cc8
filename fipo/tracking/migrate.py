"""MLflow's tables as this MLflow wants them: `python -m fipo.tracking.migrate`, before each of its servers starts.

MLflow's server makes the tables of an empty database itself, and two that do it at once break each other; tables of an
older MLflow it refuses, or treats likewise. This does both, one process after the other, and nothing where all is up
to date. The database is named by MLFLOW_BACKEND_STORE_URI, as for the server; with MLFLOW_AUTH_CONFIG_PATH the tables
of people who sign in follow, in the database that this file names.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.errors import FipoError, TrackingError
from fipo.tracking.client import load

if TYPE_CHECKING:
    import click

_LOCK = 0x6669706F
"""Of the advisory lock in PostgreSQL: any number that nobody else takes."""


def migrate(tracking_uri: str, sign_in_uri: str = "") -> None:
    """Make or upgrade MLflow's tables, and those of its basic authentication where their database is given.

    Raises:
        TrackingError: the database is neither PostgreSQL nor SQLite, cannot be reached (MLflow tries for a minute and a
            half), or a newer MLflow has made its tables.
    """
    load()
    from alembic.util import CommandError
    from mlflow import db

    try:
        with _alone(tracking_uri):
            _command(db.upgrade)(tracking_uri)
        if sign_in_uri:
            from mlflow.server.auth.db import cli

            with _alone(sign_in_uri):
                _command(cli.upgrade)(sign_in_uri, "head")
    except CommandError as error:
        raise TrackingError(
            f"MLflow's tables are of a newer MLflow than this one: {error}. Use the newer image, or a copy of the "
            "database from before its upgrade"
        ) from None


def _command(command: click.Command) -> Callable[..., Any]:
    """What a command of MLflow's command line does."""
    assert command.callback
    return command.callback


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Wait until no other process changes this database's tables."""
    if uri.startswith("sqlite:////"):
        with (Path(uri.removeprefix("sqlite:///")).parent / "mlflow.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    elif uri.startswith("postgresql"):
        from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry
        from sqlalchemy import text
        from sqlalchemy.exc import OperationalError

        try:
            engine = create_sqlalchemy_engine_with_retry(uri)
        except OperationalError as error:
            raise TrackingError(f"MLflow's database cannot be used: {error.orig}") from None
        # The lock is its connection's: it is given back however this ends. It is in no transaction, which an index
        # that is made concurrently would wait for.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _LOCK})
            yield
        engine.dispose()
    else:
        scheme = uri.partition(":")[0]
        raise TrackingError(f"MLflow's database: must be postgresql+psycopg://... or sqlite:////...; got {scheme!r}")


def main() -> None:
    """Take the databases from the environment."""
    sign_in_uri = ""
    try:
        if "MLFLOW_BACKEND_STORE_URI" not in os.environ:
            raise TrackingError("MLFLOW_BACKEND_STORE_URI: must name MLflow's database; it is not set")
        if "MLFLOW_AUTH_CONFIG_PATH" in os.environ:
            load()
            from mlflow.server.auth.config import read_auth_config

            sign_in_uri = read_auth_config().database_uri
        migrate(os.environ["MLFLOW_BACKEND_STORE_URI"], sign_in_uri)
    except FipoError as error:
        print(f"[migrate] {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    print("[migrate] MLflow's tables are up to date", flush=True)


if __name__ == "__main__":
    main()
