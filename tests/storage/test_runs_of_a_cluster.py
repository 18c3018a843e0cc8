"""`fipo status`, `report` and `compare` on runs that only an object store has, from a machine that never saw them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from fipo.cli import main
from fipo.run.result import digest
from fipo.storage import open_store

INSIDE = "s3://inside/fipo"
"""What the cluster calls the store; nothing answers here under this name."""


@pytest.fixture
def bucket(rclone, aws, servers):
    aws(rclone)
    return servers.make_bucket()


@pytest.fixture
def put_run(tiny_pipeline, bucket):
    """Bring the finished tiny run into the store, as a cluster leaves it there; returns its address."""

    def put_run(prefix="fipo", name="tiny"):
        objects, store = tiny_pipeline.config.run.directory / "objects", open_store(f"s3://{bucket}/{prefix}")
        for path in sorted(objects.rglob("tiny/**/*")):
            if path.is_dir():
                continue
            data = path.read_bytes()
            if path.name == "result.json" or (path.parent.name == "results" and len(path.stem) == 12):
                pages = {"mlflow_url": "http://mlflow:5000/#/experiments/1/runs/ab12", "pipeline_run": "0a1b-2c3d"}
                tree = {name: value for name, value in json.loads(data).items() if name != "sha256"} | pages
                data = json.dumps(tree | {"sha256": digest(tree)}).encode()
            if path.name == "config.yaml" and path.parent.name == "tiny":
                data = _inside(data)
            store.put(path.relative_to(objects).as_posix().replace("tiny/", f"{name}/", 1), data)
        return f"{store.uri}/{name}"

    return put_run


def _inside(settings):
    """The settings as a run on a cluster has them."""
    tree = yaml.safe_load(settings)
    tree["run"]["directory"], tree["storage"]["uri"], tree["trainjob"]["runtime"] = "/runs", INSIDE, "fipo-0-2-0"
    return yaml.safe_dump(tree).encode()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Where the user stands."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def said(capsys):
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def contents(store):
    return {info.key: store.get(info.key) for info in store.list()}


def test_inspect_shows_what_the_store_has(put_run, tiny_pipeline, capsys):
    address = put_run()
    main(["status", address])
    printed = said(capsys)
    for step in ("prepare", "sft", "train", "evaluate", "gate", "register", "report"):
        assert f" {step} finished 20" in printed
        for output in tiny_pipeline.outputs(step).values():
            place = "/".join(output["uri"].split("/")[-3:])
            assert f" {address}/{place} SHA-256 {output['sha256']} " in printed + " "
    assert "run tiny, recipe tiny " in printed
    assert "Kubeflow 0a1b-2c3d " in printed
    assert "fipo-tiny version 1" in printed
    summary = json.loads((tiny_pipeline.config.run_directory / "summary.json").read_text())
    before, after = (100 * summary[label]["avg_at_k"] for label in ("warmup", "trained"))
    assert f"sums: avg@2 {before:.1f}% to {after:.1f}%" in printed.replace("100%", "100.0%")
    assert "sqlite:////runs/mlflow.db is not on this machine" in printed
    assert "--set tracking.uri=http://localhost:5000" in printed


def test_inspect_asks_the_mlflow_that_it_is_told(put_run, tiny_pipeline, capsys):
    main(["status", put_run(), "--set", f"tracking.uri={tiny_pipeline.config.tracking_uri}"])
    printed = said(capsys)
    assert "fipo-tiny version 1, candidate, champion" in printed
    assert "prepare finished" in printed and "outdated" not in printed


def test_inspect_says_what_is_missing_and_what_is_outdated(put_run, bucket, capsys):
    address = put_run(name="again")  # under another name it is the same run
    store = open_store(address)
    store.delete("report/result.json")
    settings = yaml.safe_load(store.get("config.yaml"))
    settings["train"]["learning_rate"] *= 2
    store.put("config.yaml", yaml.safe_dump(settings).encode())
    main(["status", address])
    printed = said(capsys)
    assert " prepare finished " in printed
    assert " sft finished " in printed
    for step in ("train", "evaluate", "gate", "register"):  # what builds on an outdated step is outdated
        assert f" {step} outdated " in printed
    assert " report absent " in printed


def test_report_is_written_here_and_nothing_in_the_store(put_run, bucket, empty_folder, tiny_pipeline, capsys):
    address = put_run()
    before = contents(open_store(f"s3://{bucket}"))
    links = ["links.mlflow=https://mlflow.example.com", "links.pipelines=https://kubeflow.example.com/pipeline"]
    main(["report", address, "--set", links[0], "--set", links[1]])
    printed = said(capsys)
    (written,) = empty_folder.rglob("report.html")
    assert f"report {written.relative_to(empty_folder)}" in printed
    html = written.read_text()
    assert "recipe tiny" in html
    assert 'href="https://mlflow.example.com/#/experiments/1/runs/ab12"' in html
    assert 'href="https://kubeflow.example.com/pipeline/#/runs/details/0a1b-2c3d"' in html
    assert "mlflow:5000" not in html
    made_there = (tiny_pipeline.config.run_directory / "report.html").read_text()
    assert html.count("<svg role") == made_there.count("<svg role") > 3
    summary = json.loads(written.with_name("summary.json").read_text())
    own = json.loads((tiny_pipeline.config.run_directory / "summary.json").read_text())
    assert (summary["trained"], summary["seconds"]) == (own["trained"], own["seconds"])
    assert contents(open_store(f"s3://{bucket}")) == before


def test_compare_reads_several_stores(put_run, bucket, empty_folder, capsys):
    main(["compare", put_run("one"), put_run("two"), put_run("two", name="other")])
    printed = said(capsys)
    for name in ("one/tiny", "two/tiny", "other"):
        assert f" {name} " in printed
    assert "+0.0 [0.0, 0.0] 1.000" in printed, "they gave the same answers"
    figure = Path(*re.findall(r"figure (\S+\.png)", printed))
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_one_run_is_not_compared_with_itself(put_run, capsys):
    address = put_run()
    with pytest.raises(SystemExit):
        main(["compare", address, f"{address}/"])
    assert "expected at least two different runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/fipo/fast", r"no s3://\S+/fast/config.yaml; s3://\S+/fipo holds no run of this name: check storage\.uri"),
        ("/fipo/old", "it was made before fipo kept config.yaml there: submit it once more, finished steps are reused"),
        ("", "expected the address of a run, s3://bucket/prefix/RUN"),
    ],
)
def test_what_cannot_be_found_is_said_with_its_remedy(bucket, capsys, place, words):
    open_store(f"s3://{bucket}/fipo").put("old/prepare/result.json", b"{}")
    with pytest.raises(SystemExit) as ended:
        main(["status", f"s3://{bucket}{place}"])
    assert ended.value.code == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_later_run_of_the_same_name_replaces_the_settings(bucket, tmp_path):
    from fipo.config import load_config
    from fipo.run.run import Run

    own = [f"run.directory={tmp_path}", f"storage.uri=s3://{bucket}/fipo"]
    for seed in (1, 2, 2):
        Run(load_config("demo", [*own, f"run.seed={seed}"])).record_settings()
    assert yaml.safe_load(open_store(f"s3://{bucket}/fipo").get("demo/config.yaml"))["run"]["seed"] == 2
