"""The command line: bad input ends with one clear message and the right exit code, and nothing is written."""

import pytest

from fipo.cli import main

STEPS = ["prepare", "sft", "train", "evaluate", "gate", "register"]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return ended.value.code, printed.err


@pytest.mark.parametrize("step", [*STEPS, "config", "ui"])
def test_an_unknown_recipe_is_refused(step, capsys):
    code, message = refused(capsys, step, "--recipe", "nonesuch")
    assert code == 2
    assert "nonesuch" in message
    assert "demo" in message


@pytest.mark.parametrize("step", STEPS)
def test_an_impossible_setting_is_refused_before_anything_is_written(step, capsys, tmp_path):
    code, message = refused(
        capsys, step, "--recipe", "demo", "--set", f"run.directory={tmp_path}", "--set", "rollout.group_size=1"
    )
    assert code == 2
    assert "rollout.group_size" in message
    assert "2" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "needs"), [("sft", "prepare"), ("train", "prepare"), ("evaluate", "prepare"),
                                             ("gate", "prepare"), ("register", "prepare")])  # fmt: skip
def test_a_step_without_its_inputs_names_what_to_run_first(step, needs, capsys, tmp_path):
    code, message = refused(capsys, step, "--recipe", "demo", "--set", f"run.directory={tmp_path}")
    assert code == 2
    assert f"fipo {needs}" in message


@pytest.mark.parametrize(("steps", "expected"), [(0, ["sft", "train"]), (1, ["train"])])
def test_without_a_warm_up_no_step_waits_for_it(steps, expected, monkeypatch, tmp_path, capsys):
    """The model as it is takes no command of its own."""
    ran = []

    class Recorded:
        seconds, outputs = 0.0, {}

        def __init__(self, step):
            self.step = step

        def run(self, fresh=False):
            ran.append(self.step)
            return self

    monkeypatch.setattr("fipo.run.run.Run.step", lambda self, name: Recorded(name))
    main(["train", "--set", f"run.directory={tmp_path}", "--set", f"sft.steps={steps}"])
    assert ran == expected


def test_help_names_what_a_newcomer_needs_first(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    first, _, rest = printed.partition("positional arguments")
    assert [command for command in ("init", "check", "run", "ui", "chat") if f"fipo {command}" in first] == [
        "init", "check", "run", "ui", "chat",
    ]  # fmt: skip
    assert "prepare" not in first and "prepare" in rest


def test_a_missing_data_set_is_named(capsys, tmp_path):
    code, message = refused(
        capsys, "prepare", "--recipe", "demo", "--set", f"run.directory={tmp_path}", "--set",
        "data.train=[{uri: /nowhere/problems.jsonl}]",
    )  # fmt: skip
    assert code == 65
    assert "/nowhere/problems.jsonl" in message


def test_a_store_that_is_none_is_refused(capsys, tmp_path):
    code, message = refused(
        capsys, "prepare", "--recipe", "demo", "--set", f"run.directory={tmp_path}", "--set", "storage.uri=ftp://host/x"
    )
    assert code == 2
    assert "ftp://host/x" in message
    assert "s3://" in message


def test_a_report_of_no_run_is_refused(capsys):
    code, message = refused(capsys, "report", "nonesuch")
    assert code == 2
    assert "nonesuch" in message


def test_config_prints_what_can_be_read_back(capsys, tmp_path):
    main(["config", "--recipe", "demo", "--set", "run.seed=7"])
    written = tmp_path / "recipe.yaml"
    written.write_text(capsys.readouterr().out)
    main(["config", "--recipe", str(written)])
    assert "seed: 7" in capsys.readouterr().out


def test_recipes_lists_the_papers(capsys):
    main(["recipes"])
    assert {"demo", "paper-7b", "paper-32b", "baselines/dapo-32b"} <= set(capsys.readouterr().out.split())


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(
        command in printed
        for command in [
            *STEPS,
            "report",
            "compare",
            "status",
            "inspect",
            "ui",
            "recipes",
            "config",
            "init",
            "check",
            "run",
        ]
    )


@pytest.mark.parametrize("command", ["compare", "report", "status", "inspect"])
def test_a_run_that_is_not_here_may_be_one_of_a_cluster(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "slow").mkdir(parents=True)
    (tmp_path / "runs" / "slow" / "config.yaml").touch()
    code, message = refused(capsys, command, "fast")
    assert code == 2
    assert "no runs/fast/config.yaml here" in message
    assert "runs/ has slow." in message
    assert message.rstrip().endswith("s3://bucket/prefix/fast")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_run_whose_folder_was_moved_is_read_where_it_is(capsys, tmp_path):
    from fipo.config import load_config
    from fipo.run.found import find_run
    from fipo.run.run import Run

    Run(load_config("demo", [f"run.directory={tmp_path / 'before'}"])).write_settings()
    (tmp_path / "before").rename(tmp_path / "after")
    config = find_run(str(tmp_path / "after" / "demo")).run.config
    assert config.run_directory == tmp_path / "after" / "demo"
    assert config.storage_uri == f"file://{tmp_path}/after/objects"


def test_tables_in_a_pipe_have_room(monkeypatch):
    from fipo.findings import console

    monkeypatch.delenv("COLUMNS", raising=False)
    assert (console().width, console(columns=160).width) == (120, 160)
    monkeypatch.setenv("COLUMNS", "40")
    assert console().width == 40


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (("compare", "a", "b", "--set", "run.seed=1"), "fipo compare [-h] [--figure FILE.png] RUN [RUN ...]"),
        (("plan", "--recipe", "demo"), "[recipe]"),
        (("cluster", "check", "--node", "1"), "fipo cluster check [-h]"),
    ],
)
def test_an_option_of_another_command_is_refused_with_what_this_one_takes(arguments, usage, capsys):
    code, message = refused(capsys, *arguments)
    assert code == 2
    assert f"{arguments[0]} " in message and usage in message
    assert f"error: unrecognized arguments: {arguments[-2]}" in message


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-tokens", "0"), ("--max-tokens", "-1"), ("--temperature", "-1"), ("--temperature", "nan")],
)
def test_a_number_that_says_nothing_is_refused(option, value, capsys):
    code, message = refused(capsys, "chat", "model", f"{option}={value}")
    assert code == 2
    assert f"{option}: must be" in message and f"got '{value}'" in message


@pytest.mark.parametrize("command", [["init", "{}"], ["prepare", "--recipe", "demo", "--set", "run.directory={}"]])
def test_a_file_where_a_folder_is_needed_is_told(command, capsys, tmp_path):
    file = tmp_path / "mine"
    file.write_text("")
    code, message = refused(capsys, *(part.format(file) for part in command))
    assert code == 2
    assert f"fipo: {file}" in message and "name another place" in message
