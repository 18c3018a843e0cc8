"""The `fipo` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import fipo

try:
    from fipo.config import Config, describe_settings, load_config, recipe_names
    from fipo.errors import FipoError, StorageError
    from fipo.run.step import STEPS, steps_to
    from fipo.study import command as study
except ModuleNotFoundError as error:
    sys.exit(f"fipo: {error.name} is not installed here, as with the loss alone: pip install 'fipo[train]'")

FIRST = """first:
  fipo init mine                       write a recipe, rows, a benchmark and a reward function that run as they are
  fipo check --recipe mine/recipe.yaml refuse in seconds what would fail later
  fipo run --recipe mine/recipe.yaml   train, measure, judge and register the model
  fipo ui                              watch it in MLflow
  fipo chat MODEL                      try the model"""
"""What a newcomer needs."""
MACHINES = ("laptop", "one-gpu", "node")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, do it, exit with 0, or print the error and exit with its code."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except FipoError as error:
        print(f"fipo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("fipo: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(75)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_step(options: argparse.Namespace) -> None:
    config = _config(options)
    from fipo.run.run import Run

    run = Run(config)
    if not config.sft.steps and "sft" in steps_to(options.step)[:-1]:
        run.step("sft").run()  # the model as it is
    result = run.step(options.step).run(fresh=options.fresh)
    print(f"[{options.step}] {result.seconds:.1f} s")
    for name, output in result.outputs.items():
        print(f"[{options.step}] {name}: {output.uri} (sha256 {output.sha256[:12]})")


def _check(options: argparse.Namespace) -> None:
    config = _config(options)
    if not options.json:
        print(f"{options.recipe}: run {config.run.name} in {config.run.directory}/", flush=True)
    from fipo.check import check
    from fipo.findings import failed, print_findings

    findings, error = check(config)
    if options.json:
        print(json.dumps({"ok": not failed(findings), "checks": [asdict(finding) for finding in findings]}))
    else:
        print_findings(findings)
    if error:
        sys.exit(error.exit_code)


def _run(options: argparse.Namespace) -> None:
    config = _config(options)
    folder = config.run_directory
    print(f"run {config.run.name}: {' > '.join(steps_to('report'))}", flush=True)
    print(f"report   {folder / 'report.html'}")
    print(f"MLflow   {config.links.mlflow or config.tracking.uri or 'fipo ui'}", flush=True)
    from fipo.check import check
    from fipo.findings import print_findings

    findings, error = check(config)
    if error:
        print_findings(findings)
        sys.exit(error.exit_code)
    # The pipeline stands above this command and imports it: another program takes the place of this one.
    sets = [part for override in options.overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "fipo_kfp.pipelines", "run", "--recipe", options.recipe, *sets]
    os.execv(command[0], command)


def _init(options: argparse.Namespace) -> None:
    from fipo.init import init

    print("\n".join(init(options.folder, data=options.data, model=options.model, machine=options.machine)))


def _report(options: argparse.Namespace) -> None:
    from fipo.run.found import find_run

    found = find_run(options.run, options.overrides)
    from fipo.report.run import print_summary, write_figure, write_here

    if not found.in_store:
        found.run.step("report").run()
    workspace = found.run.step_as_left("report")
    if found.in_store:
        write_here(workspace)
    if options.figure:
        write_figure(workspace, options.figure)
        print(f"figure   {options.figure}")
    else:
        print_summary(workspace)


def _compare(options: argparse.Namespace) -> None:
    from fipo.run.found import distinct, find_run

    runs = distinct([find_run(run) for run in options.runs])
    import rich

    from fipo.report.compare import compare_runs, write_figures
    from fipo.report.terminal import comparison_table

    benchmarks = compare_runs(runs)
    for answers in benchmarks.values():
        rich.print(comparison_table(answers))
    here, names = next(iter(runs.values())).config.run.directory, "-".join(run.name for run in runs.values())
    for path in write_figures(benchmarks, options.figure or here / f"compare-{names}.png"):
        print(f"figure   {path}")


def _audit(options: argparse.Namespace) -> None:
    from fipo.config import Source, make_section

    columns = {"prompt_column": options.prompt_column, "answer_column": options.answer_column}
    named = {"uri": options.data, "answer_after": options.answer_after, "grader": options.grader, **columns}
    source = make_section(Source, "audit", **named)
    from fipo.data.audit import Audit, audit_source
    from fipo.rewards.pool import GraderPool

    with GraderPool(os.cpu_count() or 1, timeout_seconds=5.0) as graders:
        print("\n".join(audit_source(source, Audit(graders)).lines()))


def _status(options: argparse.Namespace) -> None:
    from fipo.run.found import find_run

    found = find_run(options.run, options.overrides)
    from fipo.report.status import print_status, status_of

    print_status(status_of(found))


def _inspect(options: argparse.Namespace) -> None:
    from fipo.inspect.server import serve

    serve(options.run, options.overrides, options.port)


def _verify(options: argparse.Namespace) -> None:
    from fipo.run.found import find_run

    found = find_run(options.run, options.overrides)
    import rich

    from fipo.report.terminal import links_table

    links = found.run.verify()
    rich.print(links_table(links))
    broken = next((link for link in links if link.holds is False), None)
    if broken:
        raise StorageError(f"verify: {broken.step} {broken.what}: {broken.why}")
    told = sum(link.holds is True for link in links)
    others = "" if told == len(links) else "; the others cannot be told from here"
    print(f"{told} of {len(links)} claims hold{others}")


def _chat(options: argparse.Namespace) -> None:
    config = _config(options)
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
    config = _config(options)
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


def _rollback(options: argparse.Namespace) -> None:
    config = _config(options)
    from fipo.release.registry import rollback

    model = rollback(config.tracking_uri, options.model or config.registry.model_name, options.version)
    print(f"{model.name}: version {model.version} is champion")
    from fipo.release.deploy import follow_champion

    if deployed := follow_champion(config, model):
        print(f"{model.name}: version {model.version} is served at {deployed.url}/v1")


def _deploy(options: argparse.Namespace) -> None:
    config = _config(options)
    from fipo.release.deploy import deploy

    deploy(config)


def _config_command(options: argparse.Namespace) -> None:
    print(_config(options).to_yaml(), end="")


def _plan(options: argparse.Namespace) -> None:
    config = _config(options)
    if options.quota:
        from fipo.planning.quota import quota_manifest

        print(quota_manifest(config, options.nodes, options.gpus, options.servers), end="")
        return
    from fipo.planning.hardware import GPUS, assume
    from fipo.planning.model import shape_of
    from fipo.planning.plan import Hardware, advise, make_plan

    gpu, assumptions = assume(GPUS[options.gpu], options.assume)
    nodes = options.nodes or config.trainjob.nodes
    servers = options.servers or len(config.rollout.servers) or 1
    gpus = options.gpus or config.trainjob.gpus_per_node or config.distributed.processes or 8
    hardware = Hardware(gpu, nodes, gpus, servers, assumptions)
    shape = shape_of(config.model, options.model_config)
    plan = make_plan(config, shape, hardware)
    advice = advise(lambda more: load_config(options.recipe, [*options.overrides, *more]), plan)
    if options.json:
        print(json.dumps(plan.as_json() | {"advice": advice.as_json() if advice else None}))
        return
    import rich

    from fipo.planning.table import advice_text, plan_tables

    rich.print(plan_tables(plan, options.recipe))
    rich.print(advice_text(plan, advice))


def _cluster_check(options: argparse.Namespace) -> None:
    from fipo.findings import failed
    from fipo.launch.check import check_cluster

    findings = check_cluster(
        namespace=options.namespace, recipe=options.recipe, overrides=options.overrides, host=options.host
    )
    if options.json:
        print(json.dumps({"ok": not failed(findings), "checks": [asdict(finding) for finding in findings]}))
    else:
        import rich

        from fipo.findings import findings_table

        rich.print(findings_table(findings))
    if failed(findings):
        sys.exit(1)


def _settings(options: argparse.Namespace) -> None:
    for setting in describe_settings():
        print(f"{setting.name} = {setting.default}  ({setting.role.value})\n    {setting.help}")


def _recipes(options: argparse.Namespace) -> None:
    print("\n".join(recipe_names()))


def _ui(options: argparse.Namespace) -> None:
    config = _config(options)
    from fipo.tracking.server import serve

    config.run.directory.mkdir(parents=True, exist_ok=True)
    serve(config.tracking_uri, artifact_root=f"{config.storage_uri}/mlflow", port=options.port)


def _config(options: argparse.Namespace) -> Config:
    config = load_config(options.recipe, options.overrides)
    if Path(options.recipe).is_file():  # functions of one's own lie beside it, for all that is started from here
        folder = str(Path(options.recipe).absolute().parent)
        places = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(places))
        sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fipo", description=f"{fipo.__doc__}\n\n{FIRST}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"fipo {fipo.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    sets = argparse.ArgumentParser(add_help=False)
    sets.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a setting of the recipe, such as train.learning_rate=3e-6; may be repeated",
    )
    recipe = argparse.ArgumentParser(add_help=False, parents=[sets])
    recipe.add_argument("--recipe", default="demo", help="name of a shipped recipe, or a YAML file (default: demo)")
    init = commands.add_parser("init", help="write a recipe, rows, a benchmark and a reward function that run")
    init.add_argument("folder", nargs="?", type=Path, default=Path(), help="where (default: here)")
    init.add_argument("--data", type=Path, metavar="FILE", help="your rows: JSONL, JSON array, CSV, .gz or parquet")
    init.add_argument("--model", default="", metavar="NAME", help="a folder with a model, or its name on the hub")
    init.add_argument("--machine", choices=MACHINES, help="what it shall run on (default: as this one is)")
    init.set_defaults(command=_init)
    check = commands.add_parser("check", parents=[recipe], help="refuse in seconds what would fail later")
    check.add_argument("--json", action="store_true", help="print one JSON object: ok, and the checks")
    check.set_defaults(command=_check)
    run_ = commands.add_parser("run", parents=[recipe], help="do all steps, from the rows to the registered model")
    run_.set_defaults(command=_run)

    for name, step in STEPS.items():
        if name == "report":  # reads any run, see below
            continue
        command = commands.add_parser(name, parents=[recipe], help=step.help, description=f"{name}: {step.help}.")
        command.add_argument("--fresh", action="store_true", help="start anew instead of reusing or continuing")
        command.set_defaults(command=_run_step, step=name)

    run = "name of a run in runs/, its folder, or its address in an object store (s3://bucket/prefix/RUN)"
    reached = argparse.ArgumentParser(add_help=False)
    reached.add_argument("run", metavar="RUN", help=run)
    reached.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="where this machine reaches MLflow (tracking.uri), and browsers MLflow and Kubeflow (links.mlflow, "
        "links.pipelines); may be repeated",
    )
    report = commands.add_parser("report", parents=[reached], help="write a run's report and print its summary")
    report.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the result as one picture instead")
    report.set_defaults(command=_report)

    compare = commands.add_parser("compare", help="compare the trained models of finished runs, paired by problem")
    compare.add_argument("runs", nargs="+", metavar="RUN", help=f"{run}; the first is the baseline")
    compare.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="where to draw them (default: in the runs' folder)"
    )
    compare.set_defaults(command=_compare)

    audit = commands.add_parser("audit", help="try the reference answers of a data set: what would each accept")
    audit.add_argument("data", help="a file of rows, s3://..., or hf://organisation/name")
    audit.add_argument("--prompt-column", default="prompt", help="column of the problem (default: prompt)")
    audit.add_argument("--answer-column", default="answer", help="column of the reference answer (default: answer)")
    audit.add_argument("--answer-after", default="", help="the answer follows this text in its column (GSM8K: ####)")
    audit.add_argument("--grader", default="math", help="what tells right from wrong (default: math)")
    audit.set_defaults(command=_audit)

    status = commands.add_parser("status", parents=[reached], help="show a run's steps, outputs, scores and pages")
    status.set_defaults(command=_status)
    inspect = commands.add_parser("inspect", parents=[reached], help="look at every response, token by token")
    inspect.description = (
        "A page on this machine: the responses of each step and group, their tokens coloured by what FIPO made of them."
        " RUN may be a folder of records that were copied out of a store, too."
    )
    inspect.add_argument("--port", type=_port, default=5010, help="port on this machine (default: 5010)")
    inspect.set_defaults(command=_inspect)
    verify = commands.add_parser("verify", parents=[reached], help="prove what a run's registered model was trained on")
    verify.set_defaults(command=_verify)

    chat = commands.add_parser("chat", parents=[recipe], help="try a model in the terminal")
    chat.add_argument("model", help="a registered model (name, name@alias, name/version) or a folder")
    chat.add_argument("--prompt", help="answer this one and end; without it, each line of the input is answered")
    chat.add_argument("--max-tokens", type=int, help="cut answers off here (default: as in training)")
    chat.add_argument("--temperature", type=float, help="0 takes the most probable token (default: as in evaluation)")
    chat.set_defaults(command=_chat)

    serve = commands.add_parser("serve", parents=[recipe], help="serve a model here, in OpenAI's protocol")
    serve.description = "By transformers' own server or vLLM. docs/serving.md shows what to do with it."
    serve.add_argument(
        "model", help="a registered model (name, name@alias, name/version), a folder, or s3://...@sha256:..."
    )
    serve.add_argument(
        "--engine", choices=["auto", "transformers", "vllm"], default="auto", help="auto: vLLM where it and a GPU are"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1: this machine)")
    serve.add_argument("--port", type=_port, default=8000, help="port (default: 8000)")
    serve.add_argument("--name", default="", help="what requests call the model (default: its registered name)")
    serve.set_defaults(command=_serve)

    deploy = commands.add_parser("deploy", parents=[recipe], help="serve the champion in the cluster")
    deploy.description = "As an InferenceService of KServe, or a Deployment, as the settings `deploy` say."
    deploy.set_defaults(command=_deploy)

    rollback = commands.add_parser(
        "rollback", parents=[recipe], help="make the champion's predecessor champion again, or any version"
    )
    rollback.description = "What the cluster serves is moved with it, where the registry says that it serves the model."
    rollback.add_argument("model", nargs="?", help="the registered model (default: the recipe's)")
    rollback.add_argument("--version", default="", help="the version that shall be champion (default: the predecessor)")
    rollback.set_defaults(command=_rollback)

    config = commands.add_parser("config", parents=[recipe], help="print every setting, resolved and checked")
    config.set_defaults(command=_config_command)

    plan = commands.add_parser("plan", parents=[sets], help="memory, time and cost of a recipe on given hardware")
    plan.description = "Memory of a rank, and time and cost of a step; docs/planning.md has the formulae."
    plan.add_argument("recipe", help="name of a shipped recipe, or a YAML file")
    plan.add_argument("--nodes", type=_count, help="machines of the trainer (default: trainjob.nodes)")
    plan.add_argument(
        "--gpus", type=_count, help="GPUs of each (default: trainjob.gpus_per_node, distributed.processes, or 8)"
    )
    plan.add_argument(
        "--gpu", choices=["a100", "h100", "h200", "b200", "l40s", "l4"], default="h100", help="default: h100"
    )
    plan.add_argument("--servers", type=_count, help="vLLM servers, with rollout.engine = served (default: 1)")
    plan.add_argument("--model-config", type=Path, metavar="FILE", help="the model's config.json, instead of the hub's")
    plan.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="replace what the plan takes for given, such as mfu=0.35 or price_per_hour=2; may be repeated",
    )
    plan.add_argument("--json", action="store_true", help="print one JSON object: bytes, seconds, dollars")
    plan.add_argument(
        "--quota", action="store_true", help="print the ResourceQuota that the recipe's job needs, nothing else"
    )
    plan.set_defaults(command=_plan)

    study.add_to(commands)

    cluster = commands.add_parser("cluster", help="look after a Kubernetes cluster")
    cluster_check = cluster.add_subparsers(required=True, metavar="command").add_parser(
        "check", parents=[recipe], help="is all there that a run of the recipe needs, and what mends it if not"
    )
    cluster_check.add_argument("--namespace", default="", help="of the runs (default: the kubeconfig's)")
    cluster_check.add_argument("--host", default="", help="URL of Kubeflow Pipelines (default: KF_PIPELINES_ENDPOINT)")
    cluster_check.add_argument("--json", action="store_true", help="print one JSON object: ok, and the checks")
    cluster_check.set_defaults(command=_cluster_check)

    settings = commands.add_parser("settings", help="explain every setting, with its default")
    settings.set_defaults(command=_settings)

    recipes = commands.add_parser("recipes", help="list the shipped recipes")
    recipes.set_defaults(command=_recipes)

    ui = commands.add_parser("ui", parents=[recipe], help="serve MLflow on the runs, and start it again when it dies")
    ui.add_argument("--port", type=_port, default=5000, help="port on this machine (default: 5000)")
    ui.set_defaults(command=_ui)
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a port, 1 to 65535; got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
