"""A model served on this machine, or in a pod: OpenAI's protocol, by transformers' own server or vLLM."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from fipo.config import Model
from fipo.errors import ServingError
from fipo.launch.local import end_with_parent
from fipo.models import load_tokenizer
from fipo.release.ask import Question, example
from fipo.release.chat import MAX_RESPONSE_TOKENS, locate
from fipo.release.engines import Engine, choose, command, environment
from fipo.release.folder import lay_out, origin, served_name, settings_of
from fipo.waits import Wait

_POLL_SECONDS = 0.2
_LOAD_SECONDS = 3600.0
"""Weights of hundreds of gigabytes come over a network in so long."""
_STOP_SECONDS = 30.0
"""For answers that are being given; what then still runs is killed."""


def serve(
    reference: str, *, tracking_uri: str, directory: Path, engine: Engine, host: str, port: int, name: str = ""
) -> None:
    """Serve a model until interrupted (SIGINT, SIGTERM), and say when it answers and how to ask it.

    Args:
        reference: as `fipo.release.chat.locate` takes it.
        tracking_uri: where registered models are looked up.
        directory: models are brought here.
        engine: which server; see `engines.choose`.
        host: address to listen at.
        port: of that address.
        name: what requests call the model; empty is its registered name, or that of its folder.

    Raises:
        RegistryError: there is no such model.
        StorageError: its weights are gone or damaged.
        ConfigError: the folder holds no safetensors model, or the engine is not installed.
        ServingError: the port is taken, or the server ended.
    """
    chosen = choose(engine)
    _check_port(host, port)
    found = locate(reference, tracking_uri=tracking_uri, directory=directory)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="fipo-serve-") as scratch:
            folder = Path(scratch) / "model" / served_name(name or found.model)
            lay_out(found.folder, folder)
            line = command(chosen, folder, host=host, port=port, settings=settings_of(found.folder))
            print(f"{found.name} by {chosen}: starting ...  (Ctrl-C ends it)", flush=True)
            # A session of its own: Ctrl-C reaches it through us, and all its processes end together.
            server = subprocess.Popen(
                line,
                cwd=folder.parent,
                env=environment(Path(scratch)),
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
            try:
                _wait_until_healthy(server, _address(host, port))
                print(_ready(_address(host, port), folder), flush=True)
                raise ServingError(f"{chosen} ended with exit code {server.wait()}; what it printed says why")
            finally:
                _stop(server)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)


def _ready(url: str, folder: Path) -> str:
    """What the user does next: a request that is answered."""
    settings = settings_of(folder)
    length = settings.rollout.max_response_tokens if settings else MAX_RESPONSE_TOKENS
    question = Question(folder.name, example(settings), length)
    model = Model(name_or_path=str(origin(folder)))
    if (folder / "chat_template.jinja").is_file() or load_tokenizer(model).chat_template:
        path, body = "chat/completions", question.body
    else:
        path, body = "completions", {"model": folder.name, "prompt": question.problem, "max_tokens": length}
    request = ["curl", f"{url}/v1/{path}", "-H", "Content-Type: application/json", "-d"]
    return f"ready: {url}/v1\n{shlex.join([*request, json.dumps(body, ensure_ascii=False)])}"


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str) -> None:
    """Both servers answer when the model is loaded. A large one takes minutes: who cannot wait ends this process."""
    wait = Wait("the model to be loaded", _LOAD_SECONDS)
    print(wait, flush=True)
    while server.poll() is None:
        if wait.over:
            raise ServingError(f"the server does not answer at {url} after {_LOAD_SECONDS:g} s; it is stopped")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(_POLL_SECONDS)
    raise ServingError(f"the server ended with exit code {server.returncode}; what it printed says why")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        try:
            os.killpg(server.pid, number)
            server.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        raise ServingError(f"port {port} at {host}: {error.strerror}; name another one with --port") from None


def _address(host: str, port: int) -> str:
    """Where this machine reaches it: an address for all interfaces is none to call."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"
