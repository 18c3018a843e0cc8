"""MLflow as every overlay starts it, replicas at once, on a PostgreSQL that is empty; and its tables' migration."""

import base64
import contextlib
import copy
import json
import multiprocessing
import os
import re
import signal
import time
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow.store.db_migrations
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from fipo.errors import TrackingError
from fipo.tracking.migrate import main, migrate
from tests.k8s import postgres
from tests.k8s.containers import Pod
from tests.k8s.test_manifests import OVERLAYS, load
from tests.present import present
from tests.waiting import free_port

ADMIN = ("admin", "a-long-password")
SIGN_IN = """[mlflow]
default_permission = READ
database_uri = {uri}
admin_username = {admin[0]}
admin_password = {admin[1]}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy.md"
MIGRATIONS = Path(mlflow.store.db_migrations.__path__[0])


def find(overlay, kind, name):
    (found,) = [item for item in load(overlay) if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return copy.deepcopy(found)


@pytest.fixture(scope="module")
def database():
    with postgres.serving(find("local", "StatefulSet", "postgres")) as server:
        yield server


def uri_of(database, name):
    """The form that the documentation gives, for this server; `prod` has the driver's name in it."""
    if name == "prod":
        return f"postgresql+psycopg://{database.address}/{name}"
    (documented,) = set(re.findall(r"backend_store_uri=(\S+)", DEPLOY.read_text()))
    (scheme,) = present(re.fullmatch(r"(\S+)://mlflow:\$password@postgres:5432/mlflow", documented)).groups()
    return f"{scheme}://{database.address}/{name}"


class Server:
    """One replica of an overlay's MLflow."""

    def __init__(self, overlay, folder, uri):
        self.overlay, self.process = overlay, None
        manifest = find(overlay, "Deployment", "mlflow")
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        container["args"] = [
            "--workers=1" if arg.startswith("--workers=") else arg for arg in container["args"]
        ]  # time
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        secret = {
            "backend_store_uri": uri,
            "basic_auth.ini": SIGN_IN.format(uri=uri, admin=ADMIN),
            "flask_server_secret_key": "x" * 32,
        }
        config = {"fipo": find(overlay, "ConfigMap", "fipo")["data"]}
        folder.mkdir()
        self.pod = Pod(manifest, folder, {"fipo": keys, "mlflow": secret}, config)
        self.namespace = manifest["metadata"]["namespace"]

    def start(self):
        self.pod.run_init_containers()
        self.process = self.pod.start()
        deadline = time.monotonic() + 240
        while self.get("/health")[0] != 200:
            assert self.process.poll() is None and time.monotonic() < deadline, self.pod.log.read_text()[-3000:]
            time.sleep(0.1)

    def stop(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def get(self, path, body=None, host="localhost:5000", admin=ADMIN):
        """Status and body of an answer."""
        headers = {"Host": host, "Content-Type": "application/json"}
        if admin:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(admin).encode()).decode()
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.pod.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def experiment(self, name, host="localhost:5000"):
        """Status of making an experiment."""
        return self.get("/api/2.0/mlflow/experiments/create", {"name": name}, host)[0]

    def experiments(self, **how):
        """Status of asking for them, and their names."""
        status, text = self.get("/api/2.0/mlflow/experiments/search", {"max_results": 100}, **how)
        return status, {entry["name"] for entry in json.loads(text)["experiments"]} if status == 200 else text


@pytest.fixture(scope="module")
def servers(database, tmp_path_factory):
    """All replicas of all overlays, started at once on empty databases, one for each overlay."""
    made: dict[str, list[Server]] = {overlay: [] for overlay in OVERLAYS}
    for overlay in OVERLAYS:
        assert database.psql(f"CREATE DATABASE {overlay}").returncode == 0
        folder = tmp_path_factory.mktemp(overlay)
        for number in range(find(overlay, "Deployment", "mlflow")["spec"]["replicas"]):
            made[overlay].append(Server(overlay, folder / str(number), uri_of(database, overlay)))
    everyone = [server for replicas in made.values() for server in replicas]
    try:
        with ThreadPoolExecutor(len(everyone)) as pool:
            list(pool.map(Server.start, everyone))
        yield made
    finally:
        for server in everyone:
            server.stop()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_replicas_that_start_at_once_on_an_empty_database_serve_it(servers, overlay):
    for number, server in enumerate(servers[overlay]):
        assert server.experiment(f"made-by-{number}") == 200
    names = {"Default", *(f"made-by-{number}" for number in range(len(servers[overlay])))}
    for server in servers[overlay]:
        assert server.experiments() == (200, names)
        assert "restart" not in server.pod.log.read_text().lower()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_answers_to_every_name_of_its_service_and_to_no_other(servers, overlay):
    server = servers[overlay][0]
    name, port = find(overlay, "Service", "mlflow")["metadata"]["name"], 5000
    # https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
    inside = [name, *(f"{name}.{server.namespace}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local"))]
    allowed = [*inside, *(f"{host}:{port}" for host in inside), f"localhost:{port}", "127.0.0.1:8080"]
    allowed += ["mlflow.example.com"] if overlay == "prod" else []
    for host in allowed:
        assert server.experiments(host=host)[0] == 200, host
    for host in ("mlflow.evil.example", f"{name}.other.svc", f"{inside[2]}.evil.example", "evil.example:5000"):
        assert server.experiments(host=host)[0] == 403, host


def test_where_people_sign_in_nobody_else_is_answered(servers):
    for server in servers["prod"]:
        assert server.experiments(admin=None)[0] == 401
        assert server.experiments(admin=("admin", "wrong-password"))[0] == 401
    (server,) = servers["local"]
    assert server.experiments(admin=None)[0] == 200


def test_the_image_has_the_driver_that_the_documentation_names():
    """Which driver `postgresql:` alone means has changed between versions of SQLAlchemy."""
    (uri,) = set(re.findall(r"backend_store_uri=(\S+)", DEPLOY.read_text()))
    driver = sqlalchemy.make_url(uri.replace("$password", "p")).get_driver_name()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert driver in {re.split(r"[^\w-]", requirement)[0] for requirement in extras["server"]}
    assert "fipo[server]" in extras["dev"], "what is tested here is what the image has"
    for constraints in ("constraints.txt", "k8s/constraints-vllm.txt"):
        assert re.search(rf"^{driver}==", (ROOT / constraints).read_text(), re.MULTILINE), constraints


def test_the_database_tells_when_it_is_ready(database):
    assert database.ready()
    assert "mlflow" in database.psql("SELECT datname FROM pg_database").stdout.split()


@pytest.fixture(params=["postgresql", "sqlite"])
def tables(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    database = request.getfixturevalue("database")
    assert database.psql(f"CREATE DATABASE {tmp_path.name}").returncode == 0
    return f"postgresql+psycopg://{database.address}/{tmp_path.name}"


def revision(uri):
    """The last migration that the database has seen, and MLflow's own last one."""
    with sqlalchemy.create_engine(uri).connect() as connection:
        seen = connection.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version"))
    return seen, ScriptDirectory(str(MIGRATIONS)).get_current_head()


def test_tables_of_an_older_mlflow_are_upgraded_with_what_is_in_them(tables):
    older = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())[10].revision
    engine = sqlalchemy.create_engine(tables)
    InitialBase.metadata.create_all(engine)
    config = AlembicConfig(str(MIGRATIONS / "alembic.ini"))
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    with engine.begin() as connection:
        values = "('kept', 's3://fipo/kept', 'active')"
        columns = "(name, artifact_location, lifecycle_stage)"
        connection.execute(sqlalchemy.text(f"INSERT INTO experiments {columns} VALUES {values}"))
    engine.dispose()
    assert revision(tables)[0] == older
    migrate(tables)
    seen, newest = revision(tables)
    assert seen == newest != older
    migrate(tables)
    found = SqlAlchemyStore(tables, "s3://fipo").get_experiment_by_name("kept")
    assert found.artifact_location == "s3://fipo/kept"


def test_tables_of_a_newer_mlflow_are_left_alone(tables):
    migrate(tables, tables)
    engine = sqlalchemy.create_engine(tables)
    names = set(sqlalchemy.inspect(engine).get_table_names())
    assert {"experiments", "users", "alembic_version_auth"} <= names, "those who sign in have tables too"
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'of-the-future'"))
    engine.dispose()
    with pytest.raises(TrackingError, match=r"newer MLflow.*of-the-future"):
        migrate(tables)
    assert revision(tables)[0] == "of-the-future"


def test_one_process_after_the_other_changes_tables(tables):
    """Without the lock one of two that start at once fails."""
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=migrate, args=(tables,)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    assert len(set(revision(tables))) == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [("mysql://host/mlflow", "must be postgresql.*got 'mysql'"), ("", "must name MLflow's database")],
)
def test_what_it_cannot_use_is_named(uri, message, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", uri)
    if not uri:
        monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_database_that_does_not_answer_is_named_without_its_password(monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    with pytest.raises(TrackingError, match=r"cannot be used: .*refused") as raised:
        migrate(f"postgresql+psycopg://mlflow:secret@127.0.0.1:{free_port()}/mlflow")
    assert "secret" not in str(raised.value)
