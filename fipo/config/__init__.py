"""The one typed tree of settings: defaults < recipe YAML < command line. Secrets never enter it; it imports no torch.

    config = load_config("demo", ["train.learning_rate=3e-6"])

A recipe is the name of a shipped file (`fipo/recipes/demo.yaml` is `demo`) or a path. `extends: NAME` starts from
another recipe. Unknown keys and impossible values raise `ConfigError` with the field, the requirement and the value.
"""

from fipo.config.algorithm import Algorithm
from fipo.config.base import Name, Role, Section, role_of
from fipo.config.cluster import Deploy, Distributed, TrainJobs
from fipo.config.data import Benchmark, Data, Programs, RunningSums, Search, Source
from fipo.config.evaluation import Evaluation, Gate, GateRule, Registry
from fipo.config.help import Setting, describe_settings
from fipo.config.model import Architecture, Lora, Model
from fipo.config.recipes import benchmark_names, load_config, make_section, recipe_names
from fipo.config.rollout import Reward, RolloutSettings
from fipo.config.run import Links, Run, Storage, Tracking
from fipo.config.train import Optimizer, Sft, Train
from fipo.config.tree import Config

__all__ = [
    "Algorithm",
    "Architecture",
    "Benchmark",
    "Config",
    "Data",
    "Deploy",
    "Distributed",
    "Evaluation",
    "Gate",
    "GateRule",
    "Links",
    "Lora",
    "Model",
    "Name",
    "Optimizer",
    "Programs",
    "Registry",
    "Reward",
    "Role",
    "RolloutSettings",
    "Run",
    "RunningSums",
    "Search",
    "Section",
    "Setting",
    "Sft",
    "Source",
    "Storage",
    "Tracking",
    "Train",
    "TrainJobs",
    "benchmark_names",
    "describe_settings",
    "load_config",
    "make_section",
    "recipe_names",
    "role_of",
]
