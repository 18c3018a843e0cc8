"""docs/quickstart.md: every transcript is what the commands print."""

import doctest
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fipo.cli import main
from tests.instruct_model import make

TEXT = (Path(__file__).parents[1] / "docs" / "quickstart.md").read_text(encoding="utf-8")
NAMES = "Ann Ben Cleo Dan Eva Finn Gus Hana Ivo Jana Kim Lou Mia Nils Ola Pia Quin Rosa Sven Tom"
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def transcripts():
    """Each command with what it prints, in order."""
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed


def run(command, capsys):
    """As a shell would; an exit code other than 0 is printed."""
    program, *arguments = shlex.split(command)
    if program == "head":
        return Path(arguments[-1]).read_text().splitlines()[0] + "\n"
    assert program == "fipo"
    sys.modules.pop("my_rewards", None)  # a command is a process of its own
    end = ""
    try:
        main(arguments)
    except SystemExit as ended:
        end = f"exit code {ended.code}\n"
    printed = capsys.readouterr()
    return printed.out + printed.err + end


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder in which the reader is: a file of rows, a model, and the reward function of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("COLUMNS", "400")  # the page folds lines, and words are what is compared
    make(tmp_path / "models" / "SmolLM2-135M-Instruct")
    with Path("shop.jsonl").open("w") as file:
        for had, name in enumerate(NAMES.split(), 3):
            bought = 2 * had + 1
            question = f"{name} has {had} pens and buys {bought} more. How many pens does {name} have?"
            solution = f"{had} + {bought} = {had + bought}.\n#### {had + bought}"
            file.write(json.dumps({"question": question, "answer": solution}) + "\n")
    return tmp_path


def test_every_transcript_is_what_is_printed(here, capsys):
    [function] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    commands = list(transcripts())
    assert len(commands) == 9
    wrong = []
    for command, expected in commands:
        if "shows_steps" in command:
            (here / "mine" / "my_rewards.py").write_text(function)
        printed = run(command, capsys)
        if not doctest.OutputChecker().check_output(expected, printed, LIKE):
            wrong.append(f"$ {command}\n{printed}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_what_init_writes_runs_to_its_end(tmp_path):
    """From another folder, with fewer steps; the pipeline takes the place of the command."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    fipo = [sys.executable, "-m", "fipo.cli"]
    subprocess.run([*fipo, "init", "deep/mine"], cwd=tmp_path, env=environment, check=True)
    fewer = [word for name in ("sft.steps=2", "train.steps=1", "distributed.processes=1") for word in ("--set", name)]
    done = subprocess.run(
        [*fipo, "run", "--recipe", "deep/mine/recipe.yaml", *fewer],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("run mine: prepare > sft > train > evaluate > gate > register > report\n")
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert "my_rewards:brevity" in (tmp_path / "runs" / "mine" / "config.yaml").read_text()


def test_a_run_that_is_refused_has_its_exit_code_and_starts_nothing(here, capsys):
    main(["init", "mine"])
    for fault, code in {"reward.functions={no: 1}": 2, "data.train=[{uri: nothing.jsonl}]": 65}.items():
        with pytest.raises(SystemExit) as ended:
            main(["run", "--recipe", "mine/recipe.yaml", "--set", fault])
        assert ended.value.code == code
    assert "failed" in capsys.readouterr().out
    assert not (here / "runs").exists()
