"""The settings tree: recipes, overrides, refusals, and that every knob is read."""

import ast
import dataclasses
import math
import re
from pathlib import Path

import pytest
import yaml

import fipo
from fipo.algorithm.options import LossOptions
from fipo.config import Config, Role, Section, Setting, describe_settings, load_config, recipe_names
from fipo.errors import ConfigError


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_survives_being_written(name, tmp_path):
    config = load_config(name)
    written = tmp_path / "config.yaml"
    written.write_text(config.to_yaml())
    assert load_config(written) == config


def test_settings_remember_the_recipe_that_they_began_with(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("extends: demo\nrun: {name: fast}\n")
    assert load_config("baselines/dapo-32b").run.recipe == "baselines/dapo-32b"
    config = load_config(own, ["run.name=faster"])
    assert (config.run.name, config.run.recipe) == ("faster", "mine")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "config.yaml").run.recipe == "mine"


def test_the_papers_presets_are_as_printed():
    small, large = load_config("paper-7b"), load_config("paper-32b")
    assert (small.rollout.group_size, small.rollout.max_response_tokens, small.reward.overlong_buffer_tokens) == (
        32,
        10240,
        2048,
    )
    assert (large.rollout.group_size, large.rollout.max_response_tokens, large.reward.overlong_buffer_tokens) == (
        16,
        20480,
        4096,
    )
    assert (small.algorithm.influence_clip_low, small.algorithm.influence_clip_high) == (0.2, 0.2)
    assert (large.algorithm.influence_clip_low, large.algorithm.influence_clip_high) == (0.0, 0.2)
    assert (small.algorithm.safety_ratio, large.algorithm.safety_ratio) == (3.0, 10.0)
    for config in (small, large):
        assert (config.train.prompts_per_step, config.train.mini_batch_prompts, config.train.updates_per_step) == (
            512,
            64,
            8,
        )
        assert (config.train.learning_rate, config.train.warmup_steps, config.train.weight_decay) == (1e-6, 10, 0.1)
        assert (config.algorithm.clip_low, config.algorithm.clip_high, config.algorithm.dual_clip) == (0.2, 0.28, 10.0)
        assert (config.algorithm.half_life, config.train.grad_clip) == (32.0, 1.0)
        assert (config.rollout.temperature, config.rollout.top_p) == (1.0, 1.0)
        assert (config.evaluation.samples, config.evaluation.temperature, config.evaluation.top_p) == (32, 1.0, 0.7)
    assert load_config("baselines/dapo-32b").train.mini_batch_prompts == 32
    assert load_config("ablations/half-life-8").algorithm.half_life == 8.0
    assert load_config("ablations/half-life-8").rollout == small.rollout


def test_overrides_reach_into_sections():
    config = load_config("demo", ["train.learning_rate=3e-6", "run.name=other", "data.near_duplicate_jaccard=null"])
    assert (config.train.learning_rate, config.run.name, config.data.near_duplicate_jaccard) == (3e-6, "other", None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.learning_rat=1", ["train.learning_rat", "no such setting"]),
        ("train.learning_rate=-1", ["train.learning_rate", "greater than 0", "-1"]),
        ("run.name=Not A Name", ["run.name", "Not A Name"]),
        ("run=3", ["run", "3"]),
        ("run.name.x=3", ["run.name", "not a section"]),
        ("train.learning_rate", ["key.path=value"]),
        ("train.steps={", ["train.steps", "not YAML"]),
        ("train.mini_batch_prompts=5", ["train.prompts_per_step", "multiple", "32"]),
        ("train.mini_batch_prompts=32", ["train.mini_batch_prompts", "influence weight is 1", "dapo"]),
        ("reward.overlong_buffer_tokens=999", ["reward.overlong_buffer_tokens", "less than", "999"]),
        ("algorithm={loss: dapo, placebo: mean}", ["algorithm.placebo", "none", "dapo", "mean"]),
        (
            "reward={functions: {accuracy: 1.0}, overlong_buffer_tokens: 4}",
            ["reward.overlong_buffer_tokens", "no `overlong`", "got 4"],
        ),
        ("gate.benchmark=nothing", ["gate.benchmark", "running-sums", "nothing"]),
        ("data.sft=[]", ["data.sft", "at least one"]),
        ("data.train=[{}]", ["data.train.0", "exactly one", "neither"]),
        ("data.prompt_template=no place", ["{prompt}", "no place"]),
        ("model.name_or_path=x", ["model", "exactly one"]),
        ("distributed.offload=parameters", ["distributed.zero_stage", "at least 3", "parameters", "got 1"]),
        ("trainjob.memory_per_node=1500 GB", ["trainjob.memory_per_node", "1500 GB"]),
        (
            "trainjob.tolerations=[{key: gpu, efect: NoSchedule}]",
            ["trainjob.tolerations", "efect", "tolerationSeconds"],
        ),
        ("deploy.memory=8GB", ["deploy.memory", "8GB"]),
        ("deploy.memory=", ["deploy.memory"]),
        ("deploy.tolerations=[{key: gpu, opeartor: Exists}]", ["deploy.tolerations", "opeartor", "operator"]),
        ("distributed={offload: optimizer, zero_stage: 0}", ["distributed.zero_stage", "at least 1", "optimizer"]),
    ],
)
def test_impossible_settings_are_refused_by_name(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config("demo", [override])
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("kind", ["shuffle", "other"])
def test_a_placebo_that_needs_whole_rows_is_refused_where_ranks_share_them(kind):
    with pytest.raises(ConfigError, match=rf"distributed\.sequence_parallel: .*placebo = {kind}.*got 2"):
        load_config("demo", [f"algorithm.placebo={kind}", "distributed.sequence_parallel=2"])
    load_config("demo", ["algorithm.placebo=mean", "distributed.sequence_parallel=2"])


def test_one_update_per_rollout_batch_is_allowed_for_dapo():
    assert load_config("demo", ["train.mini_batch_prompts=32", "algorithm.loss=dapo"]).train.updates_per_step == 1


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"nonesuch.*demo"):
        load_config("nonesuch")


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"extends: {two}")
    two.write_text(f"extends: {one}")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(one)


def test_paths_in_a_recipe_are_relative_to_the_file_that_names_them(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "base" / "base.yaml").write_text(
        "extends: demo\ndata: {train: [{uri: base.jsonl}, {uri: /data/x.csv}, {uri: s3://b/k}, {uri: hf://o/n}]}\n"
    )
    (tmp_path / "own" / "sums.yaml").write_text("uri: ../held.jsonl\n")
    (tmp_path / "own" / "mine.yaml").write_text(
        "extends: ../base/base.yaml\ndata: {benchmarks: [sums.yaml, aime-2024]}\n"
        "model: {name_or_path: model, architecture: null}\nrun: {directory: work}\n"
    )
    monkeypatch.chdir("/")
    config = load_config(tmp_path / "own" / "mine.yaml", ["data.sft=[{uri: here.jsonl}]"])
    assert [source.uri for source in config.data.train] == [
        str(tmp_path / "base" / "base.jsonl"), "/data/x.csv", "s3://b/k", "hf://o/n",
    ]  # fmt: skip
    assert config.data.benchmarks["sums"].uri == str(tmp_path / "held.jsonl")
    assert config.data.benchmarks["aime-2024"].uri.startswith("hf://")
    assert config.model.name_or_path == str(tmp_path / "own" / "model")
    assert config.data.sft[0].uri == "here.jsonl", "what is set is relative to where the command runs"
    assert str(config.run.directory) == "work", "and so is where results go"
    written = tmp_path / "config.yaml"
    written.write_text(config.to_yaml())
    assert load_config(written).data.train == config.data.train


def test_a_name_of_the_hub_is_no_path(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("extends: demo\nmodel: {name_or_path: organisation/name, architecture: null}\n")
    assert load_config(own).model.name_or_path == "organisation/name"


def test_merged_keys_of_yaml_are_no_repetition(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text(
        "extends: demo\nsft: &steps {steps: 3, batch_size: 4}\ntrain: {steps: 5}\nrun: {<<: &a {seed: 1}, seed: 2}\n"
    )
    config = load_config(own)
    assert (config.sft.steps, config.run.seed) == (3, 2)


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match="mapping"):
        load_config(path)


def test_every_knob_is_read():
    """A setting that no code reads is a lie: each leaf of the tree occurs as an attribute in the package."""
    read = set()
    for path in Path(fipo.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= (
            {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            if path.parent.name != "config"
            else set()
        )
    # Resolved by properties of Config, or handed over whole.
    read |= {"uri", "directory", "pipelines"} | set(LossOptions.__dataclass_fields__)
    assert {name for name in _leaves(Config) if name not in read} == set()


def _leaves(section):
    for name, field in section.model_fields.items():
        sections = [kind for kind in _types(field.annotation) if isinstance(kind, type) and issubclass(kind, Section)]
        yield from (leaf for kind in sections for leaf in _leaves(kind))
        if not sections:
            yield name


def _types(annotation):
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _types(argument)


def test_the_section_is_what_the_loss_takes():
    config = load_config("demo", ["algorithm.loss=gspo", "algorithm.clip_low=3e-4"])
    assert isinstance(config.algorithm, LossOptions)
    assert config.algorithm.model_dump() == dataclasses.asdict(
        LossOptions(loss="gspo", clip_low=3e-4, safety_ratio=3.0)
    )


@pytest.mark.parametrize(
    ("name", "value", "requirement"),
    [("half_life", 0.0, "above 0"), ("dual_clip", 1.0, "above 1"), ("influence_clip_high", -0.1, r"within \[0, inf\]"),
     ("clip_low", 1.5, r"within \[0, 1\]"), ("clip_high", math.nan, "above 0")],
)  # fmt: skip
def test_the_loss_refuses_what_the_settings_refuse(name, value, requirement):
    refusal = rf"{name}: must be {requirement}; got {value}"
    with pytest.raises(ConfigError, match=rf"^{refusal}$"):
        LossOptions(**{name: value})
    with pytest.raises(ConfigError, match=rf"algorithm\.{refusal}$"):
        load_config("demo", [f"algorithm.{name}={'.nan' if math.isnan(value) else value}"])


def test_every_setting_has_help():
    def undocumented(section):
        for name, field in section.model_fields.items():
            kinds = [kind for kind in _types(field.annotation) if isinstance(kind, type) and issubclass(kind, Section)]
            if not kinds and not field.description:
                yield f"{section.__name__}.{name}"
            for kind in kinds:
                yield from undocumented(kind)

    assert set(undocumented(Config)) == set()
    described = {setting.name: setting for setting in describe_settings()}
    assert described["train.steps"] == Setting("train.steps", "500", Role.LENGTH, "Rollout batches.")
    assert described["algorithm.half_life"].default == "32.0"
    assert described["data.benchmarks.NAME.samples"].role is Role.MEASURING
    assert described["data.train[].generator.digits"].default == "8", "those of entries and of what may be absent too"


def test_flat_names_settings_for_tracking():
    flat = load_config("demo").flat()
    assert flat["train.prompts_per_step"] == 32
    assert flat["run.name"] == "demo"
    assert yaml.safe_dump(flat)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gate.minimum", 1.01),
        ("gate.minimum", -0.01),
        ("data.validation_fraction", 1.5),
        ("data.near_duplicate_jaccard", 2),
    ],
)
def test_shares_lie_between_0_and_1(setting, value):
    with pytest.raises(ConfigError, match=setting.replace(".", r"\.")):
        load_config("demo", [f"{setting}={value}"])


@pytest.mark.parametrize(
    "setting", ["train.learning_rate", "reward.timeout_seconds", "rollout.temperature", "gate.minimum"]
)
@pytest.mark.parametrize("value", ["1e999", ".inf", "-.inf", ".nan"])
def test_a_number_is_finite(setting, value):
    with pytest.raises(ConfigError, match=re.escape(setting)):
        load_config("demo", [f"{setting}={value}"])
