"""`fipo check`: everything that can be refused, in seconds, by the code that the steps go through."""

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from fipo.check import CHECKS, check, require
from fipo.cli import main
from fipo.config import load_config
from fipo.errors import ConfigError, DataError, StorageError
from fipo.findings import excerpt
from fipo.models import load_model, load_tokenizer, save_model
from fipo.run.step import STEPS

TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"
CHAT = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} <turn> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ROWS_URI = "uri: mine/rows.jsonl, prompt_column: question"
WORDS = {"type": "WhitespaceSplit"}
ENDLESS = {"type": "Split", "pattern": {"Regex": "(5+)+$"}, "behavior": "Isolated", "invert": False}
NUMBERS = [(n % 5, (1 + n // 5) % 5, (2 + n // 25) % 5) for n in range(60)]
ROWS = [{"question": f"Add modulo 5 : {a} {b} {c}", "solution": str((a + b + c) % 5)} for a, b, c in NUMBERS]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a model that ends a turn with another token than a sequence, as instruct models do."""
    folder = tmp_path_factory.mktemp("models") / "small"
    words = ["Add", "modulo", "5", ":", "0", "1", "2", "3", "4", "Be", "brief.", "<user>", "<assistant>", "<system>"]
    start = load_config(TINY, ["model.architecture.vocabulary=[a, b]"]).model
    embeds = load_config(TINY, [f"model.architecture.vocabulary={json.dumps(['a', 'b', *words, 'turn'])}"]).model
    save_model(load_model(embeds), load_tokenizer(start), folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {word: 4 + n for n, word in enumerate(dict.fromkeys(words))}
    last = 4 + len(set(words))
    marks = {"id": last, "content": "<turn>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer["added_tokens"].append({**marks, "normalized": False})
    tokenizer["model"]["vocab"]["<turn>"] = last
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(CHAT)
    return folder


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe in a folder of its own, with rows beside it, read from elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = tmp_path / "mine" / "recipe.yaml"
    path.write_text(
        f"extends: {TINY}\ndata:\n  train: [{{uri: rows.jsonl, prompt_column: question, answer_column: solution}}]\n"
    )
    return path


def found(recipe, *overrides):
    """Findings by check, and the first error."""
    findings, error = check(load_config(recipe, overrides))
    return {one.check: one for one in findings}, error


def test_a_sound_recipe_passes_and_nothing_is_written(recipe, tmp_path):
    findings, error = found(recipe)
    assert error is None
    assert {one.status for one in findings.values()} == {"ok"}
    assert "50 of the first 50 rows are sound" in findings["data.train[0]"].found
    assert "as text: 'Add modulo 5 : 0 1 2'" in findings["one row"].found
    assert "as 7 tokens: Add modulo 5 : 0 1 2" in findings["one row"].found
    assert "stops at: <end>" in findings["one row"].found
    assert {path.name for path in tmp_path.rglob("*")} == {"mine", "recipe.yaml", "rows.jsonl"}


def test_the_chat_template_and_its_end_are_shown(recipe, small):
    told = [f"model={{name_or_path: {small}}}", "data.chat=true", "data.system_prompt=Be brief."]
    findings, error = found(recipe, *told)
    row = findings["one row"].found
    assert error is None
    assert "data.system_prompt: 'Be brief.'" in row
    assert "as text: '<system> Be brief. <turn> <user> Add modulo 5 : 0 1 2 <turn> <assistant>'" in row
    assert "as 14 tokens: <system> Be brief. <turn> <user>" in row
    assert "stops at: <end>, <turn>" in row
    assert "MB of safetensors" in findings["model"].found
    findings, _ = found(recipe, f"model={{name_or_path: {small}}}")
    assert findings["tokenizer"].status == "warning" and "data.chat is false" in findings["tokenizer"].found


def test_more_tokens_than_the_model_takes_are_warned_of(recipe):
    row = found(recipe, "data.max_prompt_tokens=57")[0]["one row"]  # and 8 of the response; the model takes 64
    assert row.status == "warning"
    assert "takes 64 tokens, and data.max_prompt_tokens + rollout.max_response_tokens are 65" in row.found
    assert found(recipe, "data.max_prompt_tokens=56")[0]["one row"].status == "ok"


def test_a_template_that_writes_todays_date_is_warned_of(recipe, small, tmp_path):
    shutil.copytree(small, tmp_path / "dated")
    dated = "{% set date_string = date_string or strftime_now('0') %}{{ date_string }} " + CHAT
    (tmp_path / "dated" / "chat_template.jinja").write_text(dated)
    told = [f"model={{name_or_path: {tmp_path / 'dated'}}}", "data.chat=true"]
    row = found(recipe, *told)[0]["one row"]
    assert row.status == "warning" and "writes today's date" in row.found and "date_string" in row.found
    row = found(recipe, *told, "data.chat_template_arguments={date_string: '4'}")[0]["one row"]
    assert row.status == "ok" and "as text: '4 <user> Add" in row.found


@pytest.mark.parametrize(
    ("override", "name", "kind", "words"),
    [
        ("data.train=[{uri: mine/rows.jsonl}]", "data", ConfigError,
         r"data.train[0].prompt_column: mine/rows.jsonl has no column 'prompt'; there are question, solution; "
         r"did you mean 'question'?"),
        ("data.train=[{uri: mine/rows.jsonl, prompt_column: qestion}]", "data", ConfigError, "mean 'question'?"),
        ("data.train=[{uri: mine/rows.jsonl, prompt_column: question}]", "data", ConfigError,
         "data.train[0].answer_column"),
        ("data.train=[{uri: mine/rows.json}]", "data", DataError, "No such file"),
        (f"data.train=[{{{ROWS_URI}, answer_column: question, grader: choice}}]", "data",
         ConfigError, "of the first 50 it takes none: row 1: grader choice"),
        (f"data.train=[{{{ROWS_URI}, answer_column: solution, columns: [unit]}}]", "data",
         ConfigError, "data.train[0].columns.0"),
        (f"data.train=[{{{ROWS_URI}, answer_column: solution, grader: 'no:g'}}]",
         "graders", ConfigError, "data.train[0].grader: grader 'no:g' cannot be imported"),
        ("model={name_or_path: /no/such/folder}", "tokenizer", ConfigError, "model.name_or_path: '/no/such/folder'"),
        ("model={name_or_path: mine/nothing}", "tokenizer", ConfigError, "is no folder here"),
        ("reward.functions={acuracy: 1}", "reward functions", ConfigError, "no reward function 'acuracy'"),
        ("reward.functions={'json:loads': 1}", "one reward", None, "json:loads"),
        ("rollout.engine=vllm", "engine", ConfigError, "rollout.engine: vllm needs vLLM, which is not installed here"),
        ("storage.uri=file:///etc/passwd/store", "store", StorageError, "/etc/passwd is no folder"),
        ("data.benchmarks={empty: {uri: mine/empty.jsonl}}", "data", DataError, "data.benchmarks.empty.uri"),
    ],
)  # fmt: skip
def test_what_is_refused(recipe, override, name, kind, words):
    (recipe.parent / "empty.jsonl").touch()
    findings, error = found(recipe, override)
    assert findings[name].status == "failed"
    assert words in findings[name].found
    assert "\n" not in findings[name].found
    assert kind is None or type(error) is kind


def test_a_place_for_metrics_whose_package_is_missing_is_refused_before_anything_runs(recipe, monkeypatch):
    missing = {"wandb"}
    monkeypatch.setattr("fipo.tracking.also.find_spec", lambda name: None if name in missing else name)
    findings, error = found(recipe, "tracking.also=[tensorboard]")
    assert error is None and findings["tracking"].found == "tensorboard besides MLflow"
    findings, error = found(recipe, "tracking.also=[tensorboard, wandb]")
    assert isinstance(error, ConfigError) and "pip install 'fipo[wandb]'" in findings["tracking"].found
    for step in ("prepare", "sft", "train"):
        with pytest.raises(ConfigError, match=r"tracking\.also: wandb is not installed here"):
            require(load_config(recipe, ["tracking.also=[wandb]"]), [step])


def test_every_step_goes_through_the_same_checks(recipe):
    assert {step for one in CHECKS for step in one.steps} == {name for name, step in STEPS.items() if step.check}
    config = load_config(recipe, ["reward.functions={acuracy: 1}", "model={name_or_path: ./nothing}"])
    with pytest.raises(ConfigError, match="acuracy"):
        require(config, ["train"])
    with pytest.raises(ConfigError, match="no folder here"):
        require(config, ["sft"])
    require(config, ["evaluate", "gate", "report"])


def test_damaged_weights_are_refused_by_name(recipe, small, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in small.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-100], whole[:100], b"", whole + b"more", b"\xff" * 200):
        weights.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"model\.safetensors is damaged, or was not copied to its end"):
            require(load_config(recipe, [f"model={{name_or_path: {folder}}}"]), ["sft"])
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n")
    with pytest.raises(ConfigError, match=r"model\.safetensors is a pointer of Git LFS .*git lfs pull"):
        require(load_config(recipe, [f"model={{name_or_path: {folder}}}"]), ["sft"])
    weights.unlink()
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ConfigError, match=r"it has no \*\.safetensors, but pytorch_model\.bin"):
        require(load_config(recipe, [f"model={{name_or_path: {folder}}}"]), ["sft"])
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}')
    with pytest.raises(ConfigError, match=r"model-1\.safetensors is missing"):
        require(load_config(recipe, [f"model={{name_or_path: {folder}}}"]), ["sft"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_size": 10**9}, r"embed_tokens\.weight, \(19, 16\) for \(19, 1000000000\)"),
        ({"num_hidden_layers": 90, "layer_types": ["full_attention"] * 90}, "config.json tells of 90 layers"),
        ({"num_hidden_layers": 90}, r"(?s)no configuration at .*`num_hidden_layers` \(90\) must be equal"),
        ({"intermediate_size": 10**6}, r"of another shape, such as .*mlp\.down_proj\.weight, .* for \(16, 1000000\)"),
        ({"head_dim": 8, "num_attention_heads": 1}, r"of another shape, such as .*self_attn\.o_proj\.weight"),
        ({"num_key_value_heads": 1}, r"of another shape, such as .*self_attn\.k_proj\.weight"),
        ({"attention_bias": True}, r"are missing, such as .*self_attn\.k_proj\.bias"),
        ({"model_type": "llama", "mlp_bias": True}, r"are missing, such as .*mlp\.down_proj\.bias"),
    ],
)
def test_a_configuration_of_other_weights_is_refused(recipe, small, tmp_path, changed, words):
    folder = shutil.copytree(small, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ConfigError, match=words):
        require(load_config(recipe, [f"model={{name_or_path: {folder}}}"]), ["sft"])


def test_an_excerpt_is_never_longer_than_its_text():
    digits = "".join(str(n % 10) for n in range(100))
    assert (excerpt(digits[:33], 30), excerpt("", 30)) == (digits[:33], "")
    assert excerpt(digits, 30) == digits[:20] + " [… 70 characters …] " + digits[-10:]


def test_a_slow_reward_function_is_told_with_what_a_step_of_it_takes(recipe):
    (recipe.parent.parent / "lazy_rewards.py").write_text(
        "import time\nfrom lazy_neighbour import pause\ndef lazy(response):\n    time.sleep(pause)\n    return 1\n"
    )
    (recipe.parent.parent / "lazy_neighbour.py").write_text("pause = 0.6\n")
    settings = "train.prompts_per_step=8", "train.mini_batch_prompts=4", "rollout.group_size=4"
    row = found(recipe, "reward.functions={accuracy: 1, 'lazy_rewards:lazy': 1}", *settings)[0]["one reward"]
    assert row.status == "warning", row.found
    assert "lazy_rewards:lazy 1; the reward is 2. It takes 0.6 s" in row.found
    assert re.search(r"the 32 responses of a step (19|2\d) s in all", row.found)


@pytest.mark.parametrize(
    ("file", "changed", "words"),
    [
        ("tokenizer_config.json", {"model_max_length": "long"}, "'>' not supported"),
        (
            "tokenizer.json",
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [WORDS, ENDLESS]}},
            "has no tokens for .*retry-limit-in-match",
        ),
    ],
)
def test_a_tokenizer_that_breaks_down_is_refused(recipe, small, tmp_path, file, changed, words):
    folder = shutil.copytree(small, tmp_path / "other")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changed))
    long = f"data.prompt_template='{'5' * 40}! {{prompt}}'"
    settings = f"model={{name_or_path: {folder}}}", "data.chat=true", long
    findings, error = found(recipe, *settings)
    assert isinstance(error, DataError) and re.search(words, str(error)), findings


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": "Solve it.", "solution": str(n)} for n in range(9)], "8 repeat the prompt of another row"),
        (
            [{"question": f"{n}?", "solution": f"Anna has {n} green apples."} for n in range(9)],
            "most answers are sentences, such as 'Anna has 0 green apples.'",
        ),
    ],
)
def test_rows_that_can_hardly_be_meant_are_warned_of(recipe, rows, words):
    (recipe.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    findings, _ = found(recipe)
    assert findings["data.train[0]"].status == "warning" and words in findings["data.train[0]"].found


@pytest.mark.parametrize("asked, status", [("Which is {}?", "warning"), ("Which is {}?\nA. 1\nB. 2", "ok")])
def test_a_choice_among_options_that_nobody_names_is_warned_of(recipe, asked, status):
    rows = [{"question": asked.format(n), "solution": "AB"[n % 2]} for n in range(9)]
    (recipe.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = "{uri: mine/rows.jsonl, prompt_column: question, answer_column: solution, grader: choice}"
    findings, _ = found(recipe, f"data.train=[{source}]")
    assert findings["data.train[0]"].status == status
    assert ("do the options stand in another column" in findings["data.train[0]"].found) == (status == "warning")


def test_every_column_of_a_prompt_must_be_there(recipe):
    source = "{uri: mine/rows.jsonl, prompt_column: '{question} {optoins}', answer_column: solution}"
    rows = [{"question": f"{n}?", "options": ["1", "2"], "solution": str(n)} for n in range(9)]
    (recipe.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    findings, error = found(recipe, f"data.train=[{source}]")
    assert isinstance(error, ConfigError) and "did you mean 'options'?" in findings["data"].found


def test_demonstrations_that_nobody_can_read_are_refused(recipe):
    rows = [{**row, "response": f"It is {row['solution']}, I think"} for row in ROWS]
    (recipe.parent / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = "uri: mine/sft.jsonl, prompt_column: question, answer_column: solution"
    findings, error = found(recipe, f"data.sft=[{{{source}}}]")
    assert isinstance(error, DataError) and "50 unparsed" in findings["data"].found
    assert found(recipe, f"data.sft=[{{{source}, ending: boxed}}]")[1] is None
    assert found(recipe, f"data.sft=[{{{source}}}]", "sft.steps=0")[1] is None, "nothing learns from them"


def test_reward_functions_beside_the_recipe_are_called(recipe, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    (recipe.parent / "rewards_of_this_test.py").write_text("def words(response):\n    return float(response.tokens)\n")
    told = ["--set", "reward.functions={accuracy: 1.0, 'rewards_of_this_test:words': 0.25}", "--json"]
    main(["check", "--recipe", str(recipe), *told])
    findings = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert "accuracy 1, rewards_of_this_test:words 4; the reward is 2" in findings["one reward"]["found"]


def test_the_exit_code_is_that_of_the_first_fault(recipe, capsys):
    for override, code in [("data.train=[{uri: nothing.jsonl}]", 65), ("reward.functions={no: 1}", 2)]:
        with pytest.raises(SystemExit) as ended:
            main(["check", "--recipe", str(recipe), "--set", override])
        assert ended.value.code == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_mlflow_that_is_away_is_a_warning(recipe):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    findings, error = found(recipe, f"tracking.uri=http://127.0.0.1:{port}")
    assert error is None
    assert findings["MLflow"].status == "warning" and "refused" in findings["MLflow"].found


@pytest.mark.parametrize("name", ["demo", "demo-16", "demo-code", "demo-tool", "demo-search"])
def test_the_demos_begin(name, tmp_path, capsys):
    """Their demonstrations are wrong on purpose, or one turn of several."""
    require(load_config(name, [f"run.directory={tmp_path}"]), ["prepare", "sft", "train"])
    assert "demonstrations" not in capsys.readouterr().out
