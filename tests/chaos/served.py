"""A run whose objects or measurements are on a server, and what may happen to that."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial

from tests.chaos.bench import ORDER, Bench
from tests.chaos.cases import Case, before
from tests.chaos.faulty import Faulty
from tests.mlflow_server import Server
from tests.object_stores import serve_moto

KEYS = {"aws_access_key_id": "access", "aws_secret_access_key": "of-the-test", "region_name": "us-east-1"}


class Servers:
    """moto and MLflow, each begun when it is first asked for; MLflow's database is the run's own."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._s3, self._mlflow = bench, 0, Server(bench.runs)
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def s3(self) -> int:
        """The port of moto."""
        self._s3 = self._s3 or self._ends.enter_context(serve_moto())
        return self._s3

    def mlflow(self) -> Server:
        """MLflow, which runs; it opens the database anew for each request, for the run is put back between cases."""
        if not self._mlflow.started:
            environment = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
            self._mlflow = Server(self._bench.runs, self._bench.folder / "mlflow.log", environment)
            self._mlflow.start()
            self._ends.callback(self._mlflow.kill)
        return self._mlflow


def faulty_store(step: str, faults: tuple[str, ...], seed: int, servers: Servers) -> Case:
    """The run's objects are in S3, behind a proxy with a fault in every third request; later with none."""

    def run(bench: Bench) -> list[str]:
        import boto3

        bench.restore(before(step))
        bucket, upstream = f"chaos-{seed}", servers.s3()
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{upstream}", **KEYS)
        client.create_bucket(Bucket=bucket)
        objects = bench.runs / "objects"
        for path in (path for path in objects.rglob("*") if path.is_file()):
            client.upload_file(str(path), bucket, path.relative_to(objects).as_posix())
        shutil.rmtree(objects, ignore_errors=True)  # before the first step there are none
        with contextlib.closing(Faulty(upstream, faults, 0.3, seed)) as proxy:
            arrange, more = partial(_in_s3, proxy.url), (f"storage.uri=s3://{bucket}",)
            with _environment():  # `faults` reads results
                _in_s3(proxy.url)
                found = _disturbed(bench, step, proxy, more, arrange) or bench.faults(*more, whole=False)
        held = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"] if "/claims/" in one["Key"]]
        read = (client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in held)
        return [*found, *("a claim is held" for text in read if b'"token": ""' not in text)]

    return Case(f"S3 with {', '.join(faults)} in {step} ({seed})", run)


def faulty_tracking(step: str, faults: tuple[str, ...], seed: int, servers: Servers) -> Case:
    """MLflow is a server, behind a proxy with a fault in every third request; later with none."""

    def run(bench: Bench) -> list[str]:
        with _tracked(bench, step, faults, seed, servers) as proxy:
            more = (f"tracking.uri={proxy.url}",)
            return _disturbed(bench, step, proxy, more) or bench.faults(*more, whole=False)

    return Case(f"MLflow with {', '.join(faults)} in {step} ({seed})", run)


def restarted_tracking(step: str, request: int, servers: Servers) -> Case:
    """MLflow is a server that is killed when a request comes, and starts again while the step goes on."""

    def run(bench: Bench) -> list[str]:
        with _tracked(bench, step, (), 0, servers) as proxy:
            more, server = (f"tracking.uri={proxy.url}",), servers.mlflow()
            restart = threading.Thread(target=server.start)

            def strike() -> None:
                server.kill()
                restart.start()

            proxy.at(request, strike)
            found = _disturbed(bench, step, proxy, more, settle=lambda: restart.join() if restart.ident else None)
            return found or bench.faults(*more, whole=False)

    return Case(f"MLflow is killed and starts again at request {request} of {step}", run)


@contextlib.contextmanager
def _tracked(bench: Bench, step: str, faults: tuple[str, ...], seed: int, servers: Servers) -> Iterator[Faulty]:
    """The run before a step, and a proxy before its MLflow: what a gate has said is of the registry that it asked."""
    bench.restore(before(step))
    bench.with_tables()
    with contextlib.closing(Faulty(servers.mlflow().port, faults, 0.0, seed)) as proxy:
        if earlier := ORDER[: ORDER.index(step)]:
            bench.start(*earlier, more=(f"tracking.uri={proxy.url}",)).wait()
        proxy.requests, proxy.rate = 0, 0.3
        yield proxy


def _disturbed(bench, step, proxy, more, arrange=lambda: None, settle=lambda: None) -> list[str]:
    """The step behind the proxy, and the same command behind the same one, healed; what is wrong."""
    command = bench.start(step, arrange=arrange, more=more)
    outcome = command.wait()
    found = [f"stray process after the attack: {stray}" for stray in command.strays()]
    if not outcome.told:
        found.append(f"a traceback under attack:\n{outcome.output}")
    settle()
    proxy.rate = 0.0
    again = bench.start(step, arrange=arrange, more=more).wait()
    if not again.well:
        found.append(f"the same command fails: {again.codes}\n{again.output}")
    return found


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What is set within is put back."""
    kept = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= kept


def _in_s3(endpoint: str) -> None:
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "3"}
    os.environ |= {name.upper(): value for name, value in KEYS.items() if name != "region_name"}
    os.environ["AWS_DEFAULT_REGION"] = KEYS["region_name"]
