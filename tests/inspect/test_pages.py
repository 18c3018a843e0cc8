"""The microscope's pages, asked of a real server as a browser would."""

import json
import os
import re
import signal
import socket
import threading
import urllib.request
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.inspect.pages import Pages
from fipo.inspect.server import HOST, listen, open_pages
from fipo.run.rollouts import Rollouts
from fipo.run.run import Run
from fipo.storage.file import FileStore
from tests.inspect.conftest import HOSTILE, LINEAGE, Records, serving
from tests.overwritten import overwrite
from tests.waiting import free_port, listens, wait_until

GROUP = f"/{LINEAGE}/3/aaaaaaaaaaaa-0"


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text and the tokens."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self.tokens, self.data, self._inside = [], "", [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in ("meta", "link", "input", "br", "img"):
            self._inside.append((tag, attributes))
        if "t" in (attributes.get("class") or "").split():
            self.tokens.append([attributes["id"], attributes["class"].split(), ""])

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self._inside[-1] if self._inside else ("", {})
        if tag == "script":
            self.data += [data]
            return
        self.text += data
        if "t" in (attributes.get("class") or "").split():
            self.tokens[-1][2] += data

    def links(self, within=""):
        return [one["href"] for tag, one in self.elements if tag == "a" and within in one["href"]]

    def side(self, side):
        return [token for token in self.tokens if token[0].startswith(side)]


@pytest.fixture(scope="module")
def site(records):
    with serving(Pages(Rollouts(records.store, "mine/train/rollouts/"), "mine", LINEAGE)) as running:
        yield running


def test_the_first_page_is_the_newest_step_and_leads_to_the_others(site):
    page = Page(site("/"))
    assert f"/{LINEAGE}/3" in page.links() and "step 4" in page.text and "problem cccccccccccc3333" in page.text
    groups = Page(site(f"/{LINEAGE}/3"))
    assert {f"/{LINEAGE}/3/{key}" for key in ("aaaaaaaaaaaa-0", "bbbbbbbbbbbb-0", "bbbbbbbbbbbb-1")} <= {
        *groups.links()
    }
    assert "1 of 3 right" in groups.text and groups.text.count("nothing learned from it") == 2


def test_a_step_that_is_recorded_while_the_page_is_open_is_there(tmp_path):
    records = Records(tmp_path)
    with serving(Pages(Rollouts(records.store, "mine/train/rollouts/"), "mine", "")) as site:
        status, _, page = site.get("/")
        assert status == 404 and "look again after step 1" in page
        records.write(1, records.group("aa", records.response("one")))
        assert "step 1" in Page(site("/")).text
        records.write(2, records.group("bb", records.response("two")))
        assert "problem bb" in site("/")
        records.write(2, records.group("cc", records.response("two")))  # a stopped run has continued before it
        assert "problem cc" in site("/")


def test_a_response_is_shown_token_by_token(site, records):
    page = Page(site(f"{GROUP}/1"))
    assert [token[2] for token in page.side("a")] == ["one", " two", " three", " <end>"]
    # f of 0.9, 1.0, 1.1 and 1.2: the scale reaches 0.2 to both sides in eight steps.
    assert [token[1][1:] for token in page.side("a")] == [["below4"], ["middle"], ["above4"], ["above8"]]
    data = json.loads(page.data[-1])
    assert data["values"]["f"] == ["0.8999", "1", "1.1", "1.2"] and data["values"]["entropy"] == [
        "0",
        "0.5",
        "1",
        "1.5",
    ]
    assert data["values"]["surprise"] == ["0", "1", "2", "3"] and data["values"]["advantage"] == ["-1"] * 4
    assert data["ids"] == records.ids("one", "two", "three").tolist()
    assert "3 of its step" in page.text and "version 7" in page.text


@pytest.mark.parametrize(
    ("colour", "classes"),
    [("future_kl", ["below5", "middle", "above4", "above8"]), ("entropy", ["s0", "s3", "s5", "s8"]),
     ("log_ratio", ["above8"] * 4), ("mismatch", ["above8"] * 4), ("surprise", ["s0", "s3", "s5", "s8"]),
     ("advantage", ["below8"] * 4)],
)  # fmt: skip
def test_the_address_says_what_tokens_are_coloured_by(site, colour, classes):
    page = Page(site(f"{GROUP}/1?colour={colour}"))
    assert [token[1][1] for token in page.side("a")] == classes
    assert [one["data-quantity"] for tag, one in page.elements if tag == "p" and "hidden" not in one
            and one.get("class") == "legend"] == [colour]  # fmt: skip


def test_two_siblings_stand_side_by_side_and_part_where_they_differ(site):
    page = Page(site(f"{GROUP}/0?beside=1"))
    assert "begin with the same 2 tokens" in page.text and page.text.count("part here") == 2
    same = {side: [("same" in token[1]) for token in page.side(side)] for side in "ab"}
    assert same["a"][:3] == same["b"][:3] == [True, True, False] and not any(same["a"][3:])
    keys = {one["data-key"]: one["href"] for tag, one in page.elements if tag == "a" and "data-key" in one}
    assert keys["j"].startswith(f"{GROUP}/1?") and keys["d"] == "#parts-a" and keys["b"].startswith(f"{GROUP}/0?colour")
    assert Page(site(f"{GROUP}/1")).links("beside=0"), "b puts a sibling of another outcome beside it"


@pytest.mark.parametrize(
    ("query", "found"),
    [("outcome=wrong", {"aaaaaaaaaaaa", "cccccccccccc"}), ("outcome=truncated", {"aaaaaaaaaaaa"}),
     ("outcome=timeout", set()), ("at_least=41", {"cccccccccccc"}), ("at_most=2", {"bbbbbbbbbbbb"}),
     ("outcome=correct&at_least=5&at_most=20", {"aaaaaaaaaaaa"}),
     ("", {"aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"})],
)  # fmt: skip
def test_responses_are_found_by_outcome_and_length(site, query, found):
    links = Page(site(f"/{LINEAGE}/all?{query}")).links(f"{LINEAGE}/")
    assert {match[1] for link in links if (match := re.search(r"/\d+/([a-z]+)-", link))} == found
    here = Page(site(f"/{LINEAGE}/3?{query}")).links(f"{LINEAGE}/3/")
    assert {match[1] for link in here if (match := re.search(r"/3/([a-z]+)-", link))} == found - {"cccccccccccc"}


@pytest.mark.parametrize(
    "path", [GROUP + "/0", GROUP + "/0?beside=2&colour=entropy", f"/{LINEAGE}/3", f"/{LINEAGE}/all"]
)
def test_what_a_model_writes_is_text(site, path):
    """The elements are the templates' own, whatever responses, problems, answers and explanations say."""
    page = Page(site(path))
    assert {tag for tag, _ in page.elements} <= {
        "html", "head", "meta", "title", "link", "script", "body", "header", "nav", "a", "span", "small", "main",
        "form",
        "label", "select", "option", "input", "button", "p", "ol", "li", "div", "details", "summary", "pre", "b", "i",
        "article", "h2", "dl", "dt", "dd", "footer", "kbd",
    }  # fmt: skip
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "style"
    ]
    scripts = [one for tag, one in page.elements if tag == "script"]
    assert all(one.get("src") == "/static/script.js" or one.get("type") == "application/json" for one in scripts)
    assert HOSTILE[1] in page.text and "{{7*7}}" in page.text, "shown as they are"
    assert not set(page.text) & {"\x00", "\x07", "\x1b", "\u202e"} and "‹U+202E›" in page.text


@pytest.mark.parametrize(
    ("path", "says"),
    [(GROUP + "/0?colour=red", "one of"), (f"/{LINEAGE}/9", "no step 9"), ("/ffffffffffff/3", "no records"),
     (f"/{LINEAGE}/3/dddd-0/0", "no group"),
     (GROUP + "/9", "responses 0 to 2"), (GROUP + "/0?beside=7", "responses 0 to 2"),
     (f"/{LINEAGE}/3?at_least=-1", "whole number"), (f"/{LINEAGE}/3?outcome=<b>", "one of"),
     ("/nowhere/at/all/x/y", ""),
     ("/static/pages.py", "no file"), ("/static/..%2fpages.py", ""), ("/..%2f..%2fetc/passwd", ""),
     (f"/{LINEAGE}/../../../../etc/passwd", ""), ("/%2e%2e/3/x/0", "no records")],
)  # fmt: skip
def test_what_is_not_there_is_said_and_nothing_else_is_read(site, path, says):
    status, headers, page = site.get(path)
    assert status == 404 and says in page and "root:" not in page and "<b>" not in page.replace("<b>0", "")
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_only_this_machines_browsers_are_answered(site):
    """Another site's name may lead to this address: its pages must not read ours."""
    for host in ("evil.example", f"evil.example:{site.port}", "127.0.0.1.evil.example"):
        status, _, page = site.get(GROUP + "/0", Host=host)
        assert status == 400 and "boxed" not in page and "two" not in page
    assert site.get(GROUP + "/0", Host=f"localhost:{site.port}")[0] == 200
    assert site.get("/", method="POST")[0] == site.get(GROUP + "/0", method="DELETE")[0] == 405
    _, headers, _ = site.get("/static/script.js")
    policy = headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
    assert (headers["x-content-type-options"], headers["content-type"]) == ("nosniff", "text/javascript; charset=utf-8")
    assert HOST == "127.0.0.1" and listen(0).getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="--port"):
        listen(taken.getsockname()[1])


NEW = ["prompt", "response", "token_characters", "response_tokens", "update", "influence_weights", "future_kl",
       "log_ratio", "entropy", "mismatch"]  # fmt: skip


def test_an_older_record_is_readable(tmp_path):
    records = Records(tmp_path)
    path = records.write(1, records.group("aa", records.response("one", "two"), records.response("one")))
    older = pq.read_table(path).drop_columns(NEW)
    path.unlink()
    pq.write_table(older, path)
    with serving(Pages(Rollouts(records.store, "mine/train/rollouts/"), "mine", "")) as site:
        assert "2 of 2 right" in site("/")
        page = Page(site(f"/{LINEAGE}/1/aa-0/0"))
        ids = records.ids("one", "two").tolist()
        assert [token[2] for token in page.tokens] == [f"[{one}] " for one in ids] and "before fipo kept" in page.text
        assert "advantage" in json.loads(page.data[-1])["values"]
        assert [one.tokens for one in found_in(records)] == [3, 2]


def found_in(records):
    from fipo.inspect.records import groups_of

    return groups_of(Rollouts(records.store, "mine/train/rollouts/"), LINEAGE, 1)[0].responses


def test_a_damaged_record_is_named_and_the_others_are_shown(tmp_path):
    records = Records(tmp_path)
    for step in (1, 2, 3):
        path = records.write(step, records.group("aa", records.response("one")))
        if step == 2:
            whole = path.read_bytes()
            overwrite(path, whole[:4] + bytes(len(whole) - 300) + whole[-296:])  # its columns, not its end
        if step == 3:
            overwrite(path, b"PAR1")
    with serving(Pages(Rollouts(records.store, "mine/train/rollouts/"), "mine", "")) as site:
        for step in (2, 3):
            status, headers, page = site.get(f"/{LINEAGE}/{step}")
            assert status == 500 and f"step-00000{step}.parquet" in page and "Traceback" not in page
            assert "content-security-policy" in headers
        assert "problem aa" in site(f"/{LINEAGE}/1")


def test_a_run_is_opened_while_it_trains_when_it_has_crashed_and_where_it_was_copied(tmp_path, monkeypatch):
    """No step has finished: there are settings, and what training has recorded."""
    config = load_config("demo", [f"run.directory={tmp_path}", "run.name=mine"])
    run = Run(config)
    run.write_settings()
    run.record_settings()
    records = Records(tmp_path / "objects")
    records.write(1, records.group("aa", records.response("one")))
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for path in (tmp_path / "objects" / records.prefix).iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    for reference in (str(tmp_path / "mine"), f"{(tmp_path / 'objects').as_uri()}/mine", str(copied)):
        with serving(open_pages(reference, [])) as site:
            assert "problem aa" in site("/"), reference


def test_the_command_refuses_what_is_no_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", str(tmp_path / "nothing")])
    assert stopped.value.code == 2 and "nothing" in capsys.readouterr().err


def test_ctrl_c_is_how_it_ends(tmp_path, capsys):
    records = Records(tmp_path)
    folder = records.write(1, records.group("aa", records.response("one"))).parent
    port = free_port()

    def interrupt():
        wait_until(lambda: listens(port), 60)
        urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=60).read()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    main(["inspect", str(folder), "--port", str(port)])
    assert capsys.readouterr().out.endswith("stopped\n")


def test_only_what_is_shown_is_fetched(tmp_path):
    """A step of the paper's size is gigabytes: one group's page reads its part."""
    records = Records(tmp_path)
    rng = np.random.default_rng(0)

    def noisy(response):
        rollout, score = response
        ids = rng.integers(4, len(records.tokenizer), 400).astype(np.int32)
        return replace(rollout, token_ids=ids, log_probs=rng.normal(size=400).astype(np.float32)), score

    groups = [records.group(f"{at:012x}", *[noisy(records.response("one")) for _ in range(8)]) for at in range(32)]
    path = records.write(1, *groups)
    read = []

    class Counting(FileStore):
        def get_range(self, key, start, length):
            read.append(length)
            return super().get_range(key, start, length)

    rollouts = Rollouts(Counting(tmp_path), "mine/train/rollouts/")
    table = rollouts.read_rows(LINEAGE, 1, [200, 201], ["response_index", "token_ids", "entropy"])
    assert table.column("token_ids").to_pylist()[1] == groups[25].rollouts[1].token_ids.tolist()
    assert sum(read) < path.stat().st_size / 4
