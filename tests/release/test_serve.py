"""`fipo serve`: a real server over a registered model, asked by clients that know nothing of fipo."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec

import openai
import psutil
import pytest

from fipo.config import Model
from fipo.data.running_sums import generate
from fipo.data.schema import Problem, tokenize
from fipo.models import load_model, load_tokenizer
from fipo.release.registry import fetch, find
from tests.present import present
from tests.waiting import wait_until, wait_until_gone


def greedy(folder, config, problem, tokens):
    """What transformers' own `generate` makes of the prompt that training used: text, and number of tokens."""
    saved = Model(name_or_path=str(folder))
    model, tokenizer = load_model(saved), load_tokenizer(saved)
    import torch

    prompt = torch.tensor([tokenize(Problem("", problem, ""), tokenizer, config.data).token_ids])
    generated = model.generate(prompt, do_sample=False, max_new_tokens=tokens)  # type: ignore[operator]
    answer = generated[0, prompt.shape[1] :]
    return tokenizer.decode(answer, skip_special_tokens=True), len(answer)


def refused(*arguments):
    command = [sys.executable, "-m", "fipo.cli", "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_registered_model_answers_as_it_was_trained_until_ctrl_c(tiny_pipeline, tools, tmp_path):
    """In one go, as a server takes eight seconds to start: the answers, the printed command, the end."""
    config, port = tiny_pipeline.config, tools.free_port()
    model = find(config.tracking_uri, "fipo-tiny")
    folder = fetch(model, tmp_path)
    problem = next(generate(config.data.benchmarks["sums"].generator, 1))["prompt"]
    text, tokens = greedy(folder, config, problem, 8)
    where = ["--set", f"tracking.uri={config.tracking_uri}", "--set", f"run.directory={tmp_path}"]
    with tools.fipo_serve("fipo-tiny@champion", "--port", port, *where) as serving:
        url, curl = serving.wait_until_ready()
        assert url == f"http://127.0.0.1:{port}"
        assert serving.lines[0].startswith("fipo-tiny version 1 (candidate, champion) by transformers: starting")

        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        chat = client.chat.completions.create(
            model="fipo-tiny", messages=[{"role": "user", "content": problem}], max_tokens=8, temperature=0
        )
        assert present(chat.choices[0].message.content).split() == text.split()
        assert present(chat.usage).completion_tokens == tokens
        prompt = config.data.prompt_template.replace("{prompt}", problem)
        completion = client.completions.create(model="fipo-tiny", prompt=prompt, max_tokens=8, temperature=0)
        assert completion.choices[0].text.split() == text.split()
        streamed = client.chat.completions.create(
            model="fipo-tiny", messages=[{"role": "user", "content": problem}], max_tokens=8, temperature=0, stream=True
        )
        parts = [part.choices[0].delta.content or "" for part in streamed]
        assert "".join(parts).split() == text.split()
        assert client.models.list().data == []
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="gpt2", messages=[{"role": "user", "content": "2"}])

        assert problem in curl
        if shutil.which("curl"):
            done = subprocess.run(curl, shell=True, capture_output=True, check=True)
            assert json.loads(done.stdout)["usage"]["completion_tokens"] >= 1

        code, message = refused(folder, "--port", port)
        assert (code, "name another one with --port" in message) == (1, True)

        everyone = psutil.Process(serving.process.pid).children(recursive=True)
        (server,) = (one for one in everyone if "serve" in one.cmdline())
        assert not [name for name in server.environ() if name.startswith(("AWS_", "MLFLOW_"))]
        assert [one.laddr.ip for one in server.net_connections() if one.status == "LISTEN"] == ["127.0.0.1"]
        serving.process.send_signal(signal.SIGINT)
        assert serving.process.wait(600) == 0
    assert not any(one.is_running() for one in everyone)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=5)


def test_a_server_that_cannot_start_is_an_error(small, tools):
    folder = small()
    (folder / "config.json").write_text('{"model_type": "nonesuch"}')
    code, message = refused(folder, "--port", tools.free_port())
    assert code == 1 and "ended with exit code" in message


def test_a_server_dies_with_fipo(small, tools):
    with tools.fipo_serve(small(), "--port", tools.free_port()) as serving:
        serving.process.stdout.readline()
        children = wait_until(lambda: psutil.Process(serving.process.pid).children())
        serving.process.kill()
        wait_until_gone(children)


@pytest.mark.parametrize(("host", "words"), [("127.0.0.1", "Address already in use"), ("no-such-host.invalid", "")])
def test_a_port_that_cannot_be_had_is_named_before_anything_is_loaded(host, words):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, message = refused("a-model-that-is-not-there", "--host", host, "--port", port)
    assert code == 1
    assert f"port {port} at {host}" in message and words in message


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_not_installed_says_how_to_get_it(small):
    code, message = refused(small(), "--engine", "vllm")
    assert code == 2
    assert "pip install 'fipo[vllm]'" in message


def test_weights_that_can_hold_programs_are_refused(small):
    folder = small()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    code, message = refused(folder)
    assert code == 2 and "safetensors" in message


def test_weights_with_another_digest_are_refused(small):
    from fipo.storage import open_store, upload_directory

    folder = small()
    store = open_store((folder.parent / "objects").as_uri())
    upload_directory(store, folder, "model")
    code, message = refused(
        f"{store.uri}/model@sha256:{'0' * 64}", "--set", f"run.directory={folder.parent}", "--name", "x"
    )
    assert code == 1
    assert f"expected the model of SHA-256 {'0' * 64}; found" in message
    assert not (folder.parent / "models").exists()
