"""The command lines, against what the servers document; a stand-in takes the place of vLLM, which is not installed."""

import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.release.engines import choose

STAND_IN = f"""\
#!{sys.executable}
# `vllm serve` as its own parser has it (0.32: arg_utils.py, cli_args.py): the options that fipo gives, and their types.
import argparse, http.server, json, os, sys
parser = argparse.ArgumentParser()
serve = parser.add_subparsers(required=True).add_parser("serve", allow_abbrev=False)
serve.add_argument("model_tag")
serve.add_argument("--served-model-name", nargs="+")
serve.add_argument("--host")
serve.add_argument("--port", type=int, default=8000)
serve.add_argument("--load-format", default="auto")
serve.add_argument("--max-model-len", type=int)
serve.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
options = vars(parser.parse_args())
options["files"] = sorted(os.listdir(options["model_tag"]))
open(os.environ["RECORD"], "w").write(json.dumps(options))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((options["host"], options["port"]), Handler).serve_forever()
"""


@pytest.fixture
def vllm(tmp_path):
    """The environment of a machine with vLLM; what its server was started with is written to `RECORD`."""
    package, program = tmp_path / "lib" / "vllm" / "__init__.py", tmp_path / "bin" / "vllm"
    for path, text in {package: "", program: textwrap.dedent(STAND_IN)}.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{package.parents[1]}:{os.environ.get('PYTHONPATH', '')}",
        "RECORD": str(tmp_path / "record.json"),
    }


def test_vllm_is_started_with_the_length_and_the_gpus_of_training(vllm, small, tools, tmp_path):
    folder, port = small(), tools.free_port()
    settings = ["data.max_prompt_tokens=20", "rollout.max_response_tokens=30", "rollout.tensor_parallel=2"]
    (folder / "fipo.yaml").write_text(load_config("demo", settings).to_yaml())
    arguments = (folder, "--engine", "vllm", "--port", port, "--name", "sums")
    with tools.fipo_serve(*arguments, environment=vllm) as serving:
        url, _ = serving.wait_until_ready()
    assert url == f"http://127.0.0.1:{port}"
    started = json.loads((tmp_path / "record.json").read_text())
    assert started.pop("model_tag").endswith("/sums")
    assert "chat_template.jinja" in started.pop("files")
    assert started == {
        "served_model_name": ["sums"],
        "host": "127.0.0.1",
        "port": port,
        "load_format": "safetensors",
        "max_model_len": 50,
        "tensor_parallel_size": 2,
    }


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_without_a_gpu_auto_is_transformers():
    assert choose("auto") == "transformers"
