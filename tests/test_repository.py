"""What a public host makes of the repository: workflows, templates, release, links."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import fipo
from tests import changed

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "github-issue-forms": [ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "idea")],
    "github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "dependabot": [ROOT / ".github" / "dependabot.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}
notes = runpy.run_path(str(ROOT / ".ci" / "release.py"))["notes"]


def check(schema, *files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_for_the_host_obey_its_schemas(schema):
    done = check(schema, *SCHEMAS[schema])
    assert done.returncode == 0, done.stdout


def test_the_schema_refuses_what_is_wrong(tmp_path):
    wrong = WORKFLOWS[0].read_text().replace("runs-on:", "run-on:")
    (tmp_path / "wrong.yaml").write_text(wrong)
    assert "run-on" in check("github-workflows", tmp_path / "wrong.yaml").stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_trust_as_little_as_they_can(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}, "more is for single jobs to ask"
    for name, job in workflow["jobs"].items():
        assert "uses" in job or job["timeout-minutes"] <= 240, name
        for step in job.get("steps", []):
            if "uses" not in step:
                continue
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), "pinned by commit"
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
    for line in path.read_text().splitlines():
        assert "@" not in line or "uses:" not in line or re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_there_is(path):
    text = path.read_text()
    targets = {
        folder: set(
            re.findall(r"^([a-z][\w-]*(?: [a-z][\w-]*)*):", (ROOT / folder / "Makefile").read_text(), re.MULTILINE)
        )
        for folder in (".", "k8s")
    }
    known = {folder: {name for names in found for name in names.split()} for folder, found in targets.items()}
    for folder, target in re.findall(r"^ *(?:- run: |run: )?make (?:-C (\S+) )?([a-z][\w-]*)", text, re.MULTILINE):
        assert target in known[folder or "."], target
    for file in re.findall(r"(?<![\w/])(\.ci/[\w.]+|constraints[\w-]*\.txt)", text):
        assert (ROOT / file).exists(), file


def test_every_python_that_we_promise_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [found[1] for line in project["classifiers"] if (found := re.fullmatch(r".*Python :: (3\.\d+)", line))]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"


def test_the_readme_promises_the_coverage_that_is_demanded():
    report = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["report"]
    said = re.findall(r"(\d+) % of the lines", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert said == ([str(report["fail_under"])] if "fail_under" in report else [])


CHANGELOG = """# Changelog

## 1.2.0 (2026-11-30)

- New: an inspector.

## 1.1.0 (2026-10-01)

- Old.
"""


def test_a_release_has_the_words_of_its_section():
    assert notes("v1.2.0", "1.2.0", CHANGELOG) == "- New: an inspector."


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "says"),
    [
        ("v1.3.0", "1.2.0", CHANGELOG, "expected v1.2.0"),
        ("1.2.0", "1.2.0", CHANGELOG, "expected v1.2.0"),
        ("v1.2.1", "1.2.1", CHANGELOG, "first section is 1.2.0"),
        ("v1.2.0", "1.2.0", CHANGELOG.replace("2026-11-30", "unreleased"), "the day of the release"),
        ("v1.2.0", "1.2.0", "# Changelog\n", "first section is None"),
    ],
)
def test_a_release_whose_parts_disagree_is_refused(tag, version, changelog, says):
    with pytest.raises(SystemExit, match=re.escape(says)):
        notes(tag, version, changelog)


def test_our_changelog_begins_with_our_version():
    dated = re.sub(r"\(unreleased\)", "(2026-11-30)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert notes(f"v{fipo.__version__}", fipo.__version__, dated)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", re.sub(r"`[^`\n]*`", "", text)):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"^\[[^]]+\]: (?!https?:)(\S+)", text, re.MULTILINE):
        assert (page.parent / target).exists(), target


def test_every_page_is_on_the_site():
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"^ *- (?:\w+: )?{re.escape(page.name)}$", menu, re.MULTILINE), page.name


def source_files():
    for folder in ("fipo", "components", "pipelines", "experiments", "benchmarks"):
        yield from (str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py") if "tests" not in path.parts)


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("fipo/rollout/served/guard.py", {"tests/environments", "tests/inspect", "tests/rollout"}),
        ("fipo/planning/plan.py", {"tests/init", "tests/planning"}),
        ("components/score/component.py", {"components/score/tests", "tests/pipelines", "tests/test_doors.py"}),
        ("k8s/base/storage.yaml", {"tests/k8s", "tests/apiserver"}),
        ("tests/storage/test_claim.py", {"tests/storage/test_claim.py"}),
        ("tests/storage/conftest.py", {"tests/storage"}),
        ("tests/storage/gone_test.py", {"tests/storage"}),
        ("CHANGELOG.md", set()),
    ],
)
def test_a_changed_file_asks_for_the_tests_of_its_room(path, tests):
    assert set(changed.tests_of(path)) == tests
    assert set(changed.selected([path])) == tests | set(changed.ALWAYS)


def test_no_source_is_without_quick_tests():
    assert {path for path in source_files() if not list(changed.tests_of(path))} == {"fipo/__init__.py"}


def test_what_a_folder_holds_is_not_run_twice():
    changes = ["tests/data/test_card.py", "fipo/data/card.py"]
    assert changed.selected(changes) == sorted([*changed.ALWAYS, "tests/data"])


def test_changes_are_those_since_the_branch_left(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--message=a")
    git("checkout", "-b", "mine")
    (tmp_path / "b").write_text("1")
    git("add", "b")
    git("commit", "--message=b")
    git("checkout", "main")
    (tmp_path / "theirs").write_text("1")
    git("add", "theirs")
    git("commit", "--message=theirs")
    git("checkout", "mine")
    (tmp_path / "a").write_text("2")
    (tmp_path / "new").write_text("1")
    monkeypatch.setattr(changed, "ROOT", tmp_path)
    assert changed.changed_since("main") == ["a", "b", "new"]
    with pytest.raises(SystemExit, match="nonesuch"):
        changed.changed_since("nonesuch")
