"""From rows to a registered model: `init`, `audit`, `check`, `run`, and each step by itself."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fipo.commands.options import RECIPE, Commands, read_config
from fipo.errors import ConfigError
from fipo.planning.hardware import KINDS
from fipo.run.step import STEPS, steps_to


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    init = commands.add_parser("init", help="write a recipe, rows, a benchmark and a reward function that run")
    init.add_argument("folder", nargs="?", type=Path, default=Path(), help="where (default: here)")
    init.add_argument(
        "--data", type=Path, metavar="FILE", help="your rows: JSONL, JSON array, CSV, .gz or parquet; or a folder"
    )
    for kind in ("prompt", "answer", "response"):
        init.add_argument(f"--{kind}-column", default="", metavar="NAME", help=f"column of the {kind} in FILE")
    init.add_argument("--model", default="", metavar="NAME", help="a folder with a model, or its name on the hub")
    init.add_argument("--machine", choices=KINDS, help="what it shall run on (default: as this one is)")
    init.set_defaults(command=_init)

    check = commands.add_parser("check", parents=[RECIPE], help="refuse in seconds what would fail later")
    check.add_argument("--json", action="store_true", help="print one JSON object: ok, and the checks")
    check.set_defaults(command=_check)

    run = commands.add_parser("run", parents=[RECIPE], help="do all steps, from the rows to the registered model")
    run.set_defaults(command=_run)

    for name, step in STEPS.items():
        if name == "report":  # it reads any run: see `runs`
            continue
        command = commands.add_parser(name, parents=[RECIPE], help=step.help, description=f"{name}: {step.help}.")
        how = command.add_mutually_exclusive_group()
        how.add_argument("--fresh", action="store_true", help="start anew instead of reusing or continuing")
        if name in ("sft", "train"):
            how.add_argument(
                "--continue",
                dest="go_on",
                action="store_true",
                help="after a change of settings, go on from the last checkpoint instead of starting anew",
            )
        command.set_defaults(command=_run_step, step=name, go_on=False)

    audit = commands.add_parser("audit", help="try the reference answers of a data set: what would each accept")
    audit.add_argument("data", help="a file of rows, s3://..., or hf://organisation/name")
    audit.add_argument("--prompt-column", default="prompt", help="column of the problem (default: prompt)")
    audit.add_argument("--answer-column", default="answer", help="column of the reference answer (default: answer)")
    audit.add_argument("--answer-after", default="", help="the answer follows this text in its column (GSM8K: ####)")
    audit.add_argument("--grader", default="math", help="what tells right from wrong (default: math)")
    audit.set_defaults(command=_audit)


def _init(options: argparse.Namespace) -> None:
    from fipo.init import init

    columns = {kind: vars(options)[f"{kind}_column"] for kind in ("prompt", "answer", "response")}
    if any(columns.values()) and not options.data:
        raise ConfigError(
            "--prompt-column, --answer-column and --response-column need --data FILE, whose columns they are"
        )
    made = init(options.folder, data=options.data, model=options.model, machine=options.machine, columns=columns)
    print("\n".join(made))


def _check(options: argparse.Namespace) -> None:
    config = read_config(options)
    if not options.json:
        print(f"{options.recipe}: run {config.run.name} in {config.run.directory}/", flush=True)
    from fipo.check import check
    from fipo.findings import print_findings

    findings, error = check(config)
    print_findings(findings, as_json=options.json)
    if error:
        sys.exit(error.exit_code)


def _run(options: argparse.Namespace) -> None:
    config = read_config(options)
    folder = config.run_directory
    print(f"run {config.run.name}: {' > '.join(steps_to('report'))}", flush=True)
    print(f"report   {(folder / 'report.html').absolute().as_uri()}")
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


def _run_step(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.run.run import Run

    run = Run(config)
    if not config.sft.steps and "sft" in steps_to(options.step)[:-1]:
        run.step("sft").run()  # the model as it is
    workspace = run.step(options.step)
    if options.go_on:
        from fipo.run.continuation import continuing

        workspace = continuing(workspace)
    result = workspace.run(fresh=options.fresh)
    print(f"[{options.step}] {result.seconds:.1f} s")
    for name, output in result.outputs.items():
        print(f"[{options.step}] {name}: {output.uri} (sha256 {output.sha256[:12]})")


def _audit(options: argparse.Namespace) -> None:
    from fipo.config import Source, make_section

    columns = {"prompt_column": options.prompt_column, "answer_column": options.answer_column}
    named = {"uri": options.data, "answer_after": options.answer_after, "grader": options.grader, **columns}
    source = make_section(Source, "audit", named)
    from fipo.data.audit import Audit, audit_source
    from fipo.rewards.pool import GraderPool

    with GraderPool(os.cpu_count() or 1, timeout_seconds=5.0) as graders:
        print("\n".join(audit_source(source, Audit(graders)).lines()))
