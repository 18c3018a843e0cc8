"""Which change makes which step be computed again."""

import json
import os

import pytest

from fipo.config import Config, Role, Section, describe_settings, load_config, role_of
from fipo.errors import ConfigError
from fipo.run.identity import identity_settings
from fipo.run.result import Output, digest
from fipo.run.run import Run
from fipo.run.step import STEPS
from tests import finished

ASKING = {"evaluate", "score"}
TRAINING = {"sft", "train"}


def leaves(section, path=()):
    """Every setting in a tree of settings: where it stands, and its role."""
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), (*path, name)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
        sections = [(key, entry) for key, entry in inner if isinstance(entry, Section)]
        if isinstance(value, Section):
            yield from leaves(value, here)
        elif sections:
            for key, entry in sections:
                yield from leaves(entry, (*here, key))
        else:
            yield here, role_of(field)


def changed(tree, path):
    """The tree with another value at this place."""
    (key, *rest) = path
    if isinstance(tree, Section):
        return tree.model_copy(update={key: changed(getattr(tree, key), rest) if rest else "another value"})
    if isinstance(tree, dict):
        return {**tree, key: changed(tree[key], rest)}
    return (*tree[:key], changed(tree[key], rest), *tree[key + 1 :])


def affected(before, after):
    """Steps of which the settings that count have changed."""
    return {step for step in STEPS if digest(identity_settings(before, step)) != digest(identity_settings(after, step))}


def test_every_setting_changes_the_steps_that_read_it_or_says_why_not():
    adapter = "model.lora={targets: [q_proj]}"
    config = load_config("demo", ["data.benchmarks.running-sums.grader=exact", adapter])
    places = list(leaves(config))
    assert len(places) > 140
    for path, role in places:
        reading = {name for name, step in STEPS.items() if path[0] in step.sections}
        expected = {
            Role.PLACEMENT: set(),
            Role.MEASURING: reading & ASKING,
            Role.GRADING: reading & (ASKING | {"prepare"}),
        }.get(role, reading)
        assert affected(config, changed(config, path)) == expected, ".".join(map(str, path))


def test_what_is_no_part_of_an_identity_is_decided_here():
    """Whoever adds a setting that changes no result says so twice."""
    roles: dict[Role, set[str]] = {}
    for setting in describe_settings():
        roles.setdefault(setting.role, set()).add(setting.name)
    assert roles[Role.LENGTH] == {"sft.steps", "train.steps", "train.token_budget"}
    assert roles[Role.MEASURING] == {f"data.benchmarks.NAME.{name}" for name in ["samples", "temperature", "top_p"]}
    assert roles[Role.GRADING] == {"data.benchmarks.NAME.grader", "data.benchmarks.NAME.environment"}
    placed = "run.name run.recipe run.directory storage.uri tracking.experiment_prefix tracking.also "
    placed += "rollout.tensor_parallel "
    placed += "rollout.gpu_memory_fraction rollout.servers rollout.max_batch_tokens rollout.mismatch_limit "
    placed += "rollout.environment_workers reward.workers model.name_or_path model.revision links.mlflow "
    placed += "links.pipelines reward.sandbox.require_isolation train.max_steps_without_signal "
    placed += "data.max_wrong_demonstrations"
    names = set(placed.split())
    names |= {
        f"data.{where}.{name}" for where in ("train[]", "sft[]", "benchmarks.NAME") for name in ("uri", "revision")
    }
    kept = "keep_checkpoints keep_best_checkpoints keep_checkpoints_every checkpoint_every checkpoint_minutes "
    kept += "max_tokens_per_micro_batch"
    names |= {f"{section}.{name}" for section in ("sft", "train") for name in kept.split()}
    how = "processes zero_stage offload activation_checkpointing tiled_mlp compile_layers sequence_parallel "
    how += "timeout_seconds max_restarts"
    names |= {f"distributed.{name}" for name in how.split()}
    for section in ("trainjob", "deploy"):
        names |= {f"{section}.{name}" for name in type(Config.model_fields[section].default).model_fields}
    assert roles[Role.PLACEMENT] == names


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("train.learning_rate=1e-5", {"train"}),
        ("sft.learning_rate=1e-5", {"sft"}),
        ("evaluation.samples=3", ASKING),
        ("evaluation.temperature=0.5", ASKING),
        ("distributed.precision=bf16", TRAINING | ASKING),
        ("distributed.zero_stage=2", set()),
        ("run.seed=7", TRAINING | ASKING | {"report"}),
        ("run.name=other", set()),
        ("algorithm.half_life=8", {"train"}),
        ("rollout.max_response_tokens=17", {"train"} | ASKING),
        ("rollout.max_batch_tokens=17", set()),
        ("gate.minimum=0.5", {"gate"}),
        ("registry.model_name=other", {"gate", "register"}),
        ("model.architecture.hidden_size=32", {"prepare"} | TRAINING),
        ("data.benchmarks.running-sums.samples=2", ASKING),
        ("data.benchmarks.running-sums.grader=exact", ASKING | {"prepare"}),
        ("data.benchmarks.running-sums.environment=python", ASKING | {"prepare"}),
        ("rollout.max_turns=2", {"train"} | ASKING),
        ("rollout.environment_workers=2", set()),
        (
            "data.train=[{generator: {digits: 12, seed: 1}, limit: 4000, grader: exact}]",
            {"prepare"} | TRAINING | ASKING,
        ),
        ("reward.sandbox.cpu_seconds=2", {"train"} | ASKING),
        ("reward.sandbox.require_isolation=true", set()),
        ("data.benchmarks.running-sums.limit=9", {"prepare"} | TRAINING | ASKING),
        ("trainjob.nodes=2", set()),
    ],
)
def test_by_hand(override, steps):
    assert affected(load_config("demo"), load_config("demo", [override])) == steps


@pytest.mark.parametrize("name", ["workers", "servers", "directory", "steps"])
def test_a_benchmark_may_have_any_name(name):
    named = f"data.benchmarks={{{name}: {{generator: {{digits: 4}}, limit: %d}}}}"
    assert affected(*(load_config("demo", [named % limit]) for limit in (8, 9))) == {"prepare"} | TRAINING | ASKING


@pytest.fixture
def rows(tmp_path):
    """Write problems to a file; returns it."""

    def rows(count, name="train.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": f"{n} + 1", "answer": str(n + 1)}) + "\n" for n in range(count)))
        os.utime(path, (count, count))
        return path

    return rows


@pytest.fixture
def run(tmp_path, rows):
    """Settings of a run on these problems."""
    rows(4)

    def run(*overrides):
        own = [f"run.directory={tmp_path / 'runs'}", f"data.train=[{{uri: {tmp_path / 'train.jsonl'}}}]"]
        return load_config("demo", [*own, *overrides])

    return run


def finish(config, step, content="", demonstrations=""):
    """Do a step: its outputs hold this."""
    entries = {entry for one in STEPS.values() for entry in one.reads if entry.startswith(f"{step}/")}
    names = {entry.partition("/")[2].partition(":")[0] for entry in entries}
    parts = {"problems": digest(content), "demonstrations": digest(demonstrations)} if step == "prepare" else {}
    outputs = {name: Output(f"s3://b/{name}", digest([name, content, demonstrations]), parts) for name in names}
    return finished.finish(config, step, outputs)


def test_an_edited_file_is_prepared_again_and_a_renamed_one_is_not(run, rows, tmp_path):
    finish(run(), "prepare", "4 rows")
    assert Run(run()).step("prepare").finished()
    rows(5)
    assert not Run(run()).step("prepare").finished()
    elsewhere = [f"data.train=[{{uri: {rows(4, 'renamed.jsonl')}}}]"]
    assert Run(run(*elsewhere)).step("prepare").finished()


def test_other_data_reach_the_steps_behind_and_the_same_data_do_not(run, rows):
    for step in ("prepare", "sft", "train"):
        finish(run(), step, "first")
    Run(run()).step("prepare").discard()
    finish(run(), "prepare", "first")
    assert Run(run()).step("train").finished(), "run again, with the same outcome"
    rows(2)
    assert Run(run()).step("train").finished(), "on what was prepared; whether that is current is for prepare to say"
    finish(run(), "prepare", "second")
    assert Run(run()).step("sft").finished(), "it reads other files, which have not changed"
    assert not Run(run()).step("train").finished()
    finish(run(), "prepare", "second", "other demonstrations")
    assert not Run(run()).step("sft").finished()


def test_a_step_builds_on_the_result_that_fits_and_not_on_the_newest(run):
    """Train A, train B, evaluate for A."""
    a, b = run("train.learning_rate=1e-4"), run("train.learning_rate=1e-3")
    for step in ("prepare", "sft"):
        finish(a, step)
    finish(a, "train", "A")
    finish(b, "train", "B")
    assert Run(a).step("evaluate").upstream["train"].outputs["model"].sha256 == digest(["model", "A", ""])
    assert Run(b).step("evaluate").upstream["train"].outputs["model"].sha256 == digest(["model", "B", ""])
    limited = run("data.validation_fraction=0.5")
    with pytest.raises(ConfigError, match=r"'prepare'.*what is there has other settings or inputs.*run `fipo prepare`"):
        Run(limited).step("sft")


def test_a_longer_run_is_another_result_and_continues_the_shorter_ones_work(run):
    for step in ("prepare", "sft"):
        finish(run(), step)
    short, long = (Run(run(f"train.steps={steps}")).step("train") for steps in (2, 4))
    assert short.fingerprint != long.fingerprint
    assert short.directory == long.directory


def test_a_models_folder_counts_by_its_weights_for_the_warm_up_and_by_its_tokenizer_before(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_text("first")
    config = run(f"model={{name_or_path: {folder}}}")
    finish(config, "prepare")
    finish(config, "sft")
    (folder / "model.safetensors").write_text("second")
    assert Run(config).step("prepare").finished()
    assert not Run(config).step("sft").finished()


def test_an_edited_reward_is_trained_on_again(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_reward.py").write_text("def short(response): return 1.0\n")
    config = run("reward.functions={'own_reward:short': 1.0}")
    for step in ("prepare", "sft", "train"):
        finish(config, step)
    (tmp_path / "own_reward.py").write_text("def short(response): return 0.0\n")
    assert Run(config).step("sft").finished()
    assert not Run(config).step("train").finished()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"step": "prepare"}', b"\xff\xfe"])
def test_a_damaged_result_is_none_and_fresh_works(run, content, capsys):
    workspace = finish(run(), "prepare")
    kept = [found.key for found in workspace.store.list("demo/prepare/") if found.key.endswith(".json")]
    assert len(kept) == 2
    for key in kept:
        workspace.store.put(key, content)
    assert workspace.finished() is None
    assert "taken as absent" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="run `fipo prepare`"):
        Run(run()).step("sft")
    workspace.discard()
    assert not [found.key for found in workspace.store.list("demo/prepare/") if found.key in kept]


def test_the_processes_of_a_job_are_told_what_their_step_is(run, rows, tmp_path):
    """They do not look at files that may have changed since."""
    finish(run(), "prepare", "first")
    told = Run(run()).step("sft")
    told.identity.write(tmp_path / "identity.json")
    rows(9)
    from fipo.run.identity import Identity

    worker = Run(run()).step("sft", Identity.read(tmp_path / "identity.json"))
    assert (worker.fingerprint, worker.directory) == (told.fingerprint, told.directory)
    assert worker.upstream == told.upstream
