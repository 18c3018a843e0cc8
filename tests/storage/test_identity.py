"""A role in place of keys, as `k8s/components/identity-eks` gives one, where the settings name the store's server."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fipo.errors import StorageError
from fipo.release import manifests
from fipo.storage import open_store
from fipo_kfp.pipelines import tasks


@pytest.fixture
def objects():
    """A server of one bucket that knows no other service; `posted` is what came to it besides."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def do_POST(self):
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html>a page")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()


@pytest.fixture
def role(moto, tmp_path, monkeypatch):
    """What the webhook of IRSA adds to a pod; moto is the service that gives keys for the token."""
    token, settings = tmp_path / "token", tmp_path / "config"
    token.write_text("the-token-of-the-pod")
    settings.write_text(f"[default]\nservices = here\n[services here]\nsts =\n  endpoint_url = {moto}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/fipo")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))


@pytest.mark.parametrize(
    "variables",
    [tasks.CONFIG, {key: variable for variable, key in manifests.CONFIG.items()}],
    ids=["tasks and training pods", "servers"],
)
def test_a_pods_token_goes_to_whom_it_is_for_and_not_to_the_object_store(variables, objects, role, monkeypatch):
    endpoint, posted = objects
    monkeypatch.setenv(variables["s3_endpoint"], endpoint)
    open_store("s3://fipo/runs")
    assert posted == []


def test_who_lets_one_address_answer_for_all_services_is_told_which_variable_does_not(objects, role, monkeypatch):
    endpoint, _ = objects
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=r"open s3://fipo.*AWS_ENDPOINT_URL_S3"):
        open_store("s3://fipo")
