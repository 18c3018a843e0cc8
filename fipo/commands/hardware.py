"""What a recipe needs of machines, and what this one or a cluster lacks: `plan`, `doctor`, `cluster check`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.commands.options import RECIPE, SETS, Commands, count, read_config
from fipo.config import Config, load_config

if TYPE_CHECKING:
    from fipo.planning.plan import Hardware


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    plan = commands.add_parser("plan", parents=[SETS], help="memory, time and cost of a recipe, here or on given GPUs")
    plan.description = (
        "Memory of a rank, and time and cost of a step: on this machine, its GPUs or cores, where neither the options "
        "nor the recipe name another. docs/planning.md has the formulae."
    )
    plan.add_argument(
        "recipe", nargs="?", default="demo", help="name of a shipped recipe, or a YAML file (default: demo)"
    )
    plan.add_argument("--nodes", type=count, help="machines of the trainer (default: trainjob.nodes)")
    plan.add_argument(
        "--gpus", type=count, help="GPUs of each (default: trainjob.gpus_per_node, distributed.processes, or 8)"
    )
    kinds = ["a100", "h100", "h200", "b200", "l40s", "l4"]
    plan.add_argument("--gpu", choices=kinds, help="default: h100, where anything here names other machines")
    plan.add_argument("--servers", type=count, help="vLLM servers, with rollout.engine = served (default: 1)")
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

    doctor = commands.add_parser("doctor", parents=[RECIPE], help="what works on this machine, in a minute")
    doctor.add_argument("--json", action="store_true", help="print one JSON object: ok, and the checks")
    doctor.set_defaults(command=_doctor)

    cluster = commands.add_parser("cluster", help="look after a Kubernetes cluster")
    cluster_check = cluster.add_subparsers(required=True, metavar="command").add_parser(
        "check", parents=[RECIPE], help="is all there that a run of the recipe needs, and what mends it if not"
    )
    cluster_check.add_argument("--namespace", default="", help="of the runs (default: the kubeconfig's)")
    cluster_check.add_argument("--host", default="", help="URL of Kubeflow Pipelines (default: KF_PIPELINES_ENDPOINT)")
    cluster_check.add_argument("--json", action="store_true", help="print one JSON object: ok, and the checks")
    cluster_check.set_defaults(command=_cluster_check)


def _plan(options: argparse.Namespace) -> None:
    config = read_config(options)
    if options.quota:
        from fipo.planning.quota import quota_manifest

        print(quota_manifest(config, options.nodes, options.gpus, options.servers), end="")
        return
    from fipo.planning.idle import idle_of
    from fipo.planning.model import shape_of
    from fipo.planning.plan import advise, make_plan

    hardware = _hardware(options, config)
    shape = shape_of(config.model, options.model_config)
    plan = make_plan(config, shape, hardware)
    advice = advise(lambda more: load_config(options.recipe, [*options.overrides, *more]), plan)
    idle = idle_of(plan, config)
    if options.json:
        print(json.dumps(plan.as_json() | {"idle": asdict(idle), "advice": advice.as_json() if advice else None}))
        return
    from fipo.findings import console
    from fipo.planning.table import advice_text, plan_tables

    console().print(plan_tables(plan, options.recipe, idle))
    console().print(advice_text(plan, advice))


def _hardware(options: argparse.Namespace, config: Config) -> Hardware:
    """What options or recipe name, or this machine."""
    from fipo.planning.hardware import GPUS, assume
    from fipo.planning.plan import Hardware

    job = config.trainjob
    servers = options.servers or len(config.rollout.servers) or 1
    if options.gpu or options.gpus or options.nodes or job.runtime or job.gpus_per_node or job.nodes > 1:
        gpu, assumptions = assume(GPUS[options.gpu or "h100"], options.assume)
        gpus = options.gpus or job.gpus_per_node or config.distributed.processes or 8
        return Hardware(gpu, options.nodes or job.nodes, gpus, servers, assumptions)
    from fipo.planning.this_machine import its_cores, its_gpus

    devices = its_gpus() or its_cores(config.distributed.precision)
    ranks = config.distributed.processes or devices.count
    gpu, assumptions = assume(devices.for_each(ranks), options.assume, devices.assumptions)
    return Hardware(gpu, 1, ranks, servers, assumptions, devices.on_gpu, devices.name)


def _doctor(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.doctor import examine
    from fipo.findings import failed, print_findings

    findings, _ = examine(config)
    print_findings(findings, as_json=options.json)
    if failed(findings):
        sys.exit(1)


def _cluster_check(options: argparse.Namespace) -> None:
    from fipo.findings import failed, print_findings
    from fipo.launch.check import check_cluster

    findings = check_cluster(
        namespace=options.namespace, recipe=options.recipe, overrides=options.overrides, host=options.host
    )
    print_findings(findings, as_json=options.json)
    if failed(findings):
        sys.exit(1)
