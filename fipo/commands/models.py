"""Models that came out: `chat`, `serve`, `deploy`, `rollback`."""

from __future__ import annotations

import argparse
import sys

from fipo.commands.options import RECIPE, Commands, count, port, read_config, temperature


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    chat = commands.add_parser("chat", parents=[RECIPE], help="try a model in the terminal")
    chat.add_argument("model", help="a registered model (name, name@alias, name/version) or a folder")
    chat.add_argument("--prompt", help="answer this one and end; without it, each line of the input is answered")
    chat.add_argument("--max-tokens", type=count, help="cut answers off here (default: as in training)")
    chat.add_argument(
        "--temperature", type=temperature, help="0 takes the most probable token (default: as in evaluation)"
    )
    chat.set_defaults(command=_chat)

    serve = commands.add_parser("serve", parents=[RECIPE], help="serve a model here, in OpenAI's protocol")
    serve.description = "By transformers' own server or vLLM. docs/serving.md shows what to do with it."
    serve.add_argument(
        "model", help="a registered model (name, name@alias, name/version), a folder, or s3://...@sha256:..."
    )
    serve.add_argument(
        "--engine", choices=["auto", "transformers", "vllm"], default="auto", help="auto: vLLM where it and a GPU are"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1: this machine)")
    serve.add_argument("--port", type=port, default=8000, help="port (default: 8000)")
    serve.add_argument("--name", default="", help="what requests call the model (default: its registered name)")
    serve.set_defaults(command=_serve)

    deploy = commands.add_parser("deploy", parents=[RECIPE], help="serve the champion in the cluster")
    deploy.description = "As an InferenceService of KServe, or a Deployment, as the settings `deploy` say."
    deploy.set_defaults(command=_deploy)

    rollback = commands.add_parser(
        "rollback", parents=[RECIPE], help="make the champion's predecessor champion again, or any version"
    )
    rollback.description = "What the cluster serves is moved with it, where the registry says that it serves the model."
    rollback.add_argument("model", nargs="?", help="the registered model (default: the recipe's)")
    rollback.add_argument("--version", default="", help="the version that shall be champion (default: the predecessor)")
    rollback.set_defaults(command=_rollback)


def _chat(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.release.chat import Chat, converse, locate

    found = locate(options.model, tracking_uri=config.tracking_uri, directory=config.run.directory)
    chat = Chat(found.folder, max_response_tokens=options.max_tokens, temperature=options.temperature)
    if options.prompt:
        chat.answer(options.prompt)
        return
    if sys.stdin.isatty():
        print(f"{found.name}. Each line is a problem of its own; Ctrl-D ends.")
    converse(chat)


def _serve(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.release.serve import serve

    serve(
        options.model,
        tracking_uri=config.tracking_uri,
        directory=config.run.directory,
        engine=options.engine,
        host=options.host,
        port=options.port,
        name=options.name,
    )


def _deploy(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.release.deploy import deploy

    deploy(config)


def _rollback(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.release.registry import rollback

    model = rollback(config.tracking_uri, options.model or config.registry.model_name, options.version)
    print(f"{model.name}: version {model.version} is champion")
    from fipo.release.deploy import follow_champion

    if deployed := follow_champion(config, model):
        print(f"{model.name}: version {model.version} is served at {deployed.url}/v1")
