import copy
import hashlib
import json
import os
import subprocess
import sys

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from fipo.config import load_config
from fipo.data.manifest import Manifest
from fipo.data.prepare import prepare
from fipo.data.rows import Reason
from fipo.errors import DataError
from fipo.models import load_tokenizer
from tests.data.conftest import Prepared

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def rows(*prompts, answer="1"):
    return [{"prompt": prompt, "answer": answer} for prompt in prompts]


def digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_bad_rows_are_set_aside_with_line_and_reason_and_the_others_kept(configure, run):
    train = [
        {"prompt": "What is 1 + 1?", "answer": "2"},
        b'{"prompt": "broken"\n',
        b"\x80\x81\xff\n",
        b"\r\n",
        {"question": "What is 2 + 1?", "answer": "3"},
        {"prompt": "What is 3 + 1?", "answer": None},
        {"prompt": "What is 4 + 1?", "answer": "unparsable"},
        {"prompt": "What is 5 + 1?", "answer": 6},
    ]
    prepared = run(configure(train))
    assert prepared.prompts() == ["What is 1 + 1?", "What is 5 + 1?"]
    assert prepared.quarantined == [
        (2, Reason.NOT_JSON),
        (3, Reason.NOT_UTF8),
        (5, Reason.NO_PROMPT),
        (6, Reason.NO_ANSWER),
        (7, Reason.UNVERIFIABLE),
    ]
    tally = prepared.tally()
    assert (tally.read, sum(tally.quarantined.values()), tally.removed, tally.kept) == (7, 5, {}, 2)


def test_quarantine_tells_where_a_row_came_from(configure, run):
    config = configure([*rows("Good?"), b"x" * 1000])
    prepared = run(config)
    (entry,) = map(json.loads, (prepared.folder / "quarantine.jsonl").read_text().splitlines())
    assert entry["set"] == "train" and entry["source"] == config.data.train[0].uri
    assert entry["excerpt"] == "x" * 200


def test_exact_duplicates_and_contradictions(configure, run):
    train = [*rows("What is it?"), *rows(" What  is\tit? "), *rows("What is it?", answer="2"), *rows("What else?")]
    prepared = run(configure(train))
    assert prepared.prompts() == ["What is it?", "What else?"]
    assert prepared.tally().removed == {Reason.DUPLICATE: 1}
    assert prepared.quarantined == [(3, Reason.CONFLICT)]


def test_duplicates_are_found_across_the_sources_of_a_set(configure, run, write):
    first, second = write("first.jsonl", rows("A?", "B?")), write("second.jsonl", rows("B?", "C?"))
    prepared = run(configure([], train=[{"uri": first}, {"uri": second}]))
    assert prepared.prompts() == ["A?", "B?", "C?"]
    assert [tally.removed for tally in prepared.manifest.sources[1:]] == [{}, {Reason.DUPLICATE: 1}]


def test_near_duplicates(configure, run):
    train = [*rows(f"{LONG} fifteen sixteen"), *rows(f"{LONG}, fifteen sixteen!"), *rows(f"{LONG} 15 sixteen")]
    prepared = run(configure(train))
    assert prepared.prompts() == [f"{LONG} fifteen sixteen", f"{LONG} 15 sixteen"]
    assert prepared.tally().removed == {Reason.NEAR_DUPLICATE: 1}
    assert len(run(configure(train, near_duplicate_jaccard=None)).prompts()) == 3


def test_generated_problems_are_no_near_duplicates_of_each_other(configure, run):
    """Forty binary digits have nearly the same runs of five, whatever their order."""
    generator = {"generator": {"digits": 40, "modulus": 2}, "limit": 300}
    assert len(run(configure(generator)).prompts()) == 300


def test_what_overlaps_a_benchmark_is_in_no_learning_set(configure, run):
    benchmark = rows(LONG, "What is 3 + 4?")
    train = rows(f"Now {LONG.upper()}!", "what is 3+4", "What is 3 - 4?", LONG.replace("seven", "7"))
    sft = [{**row, "response": "It is 1."} for row in train]
    prepared = run(configure(train, benchmark, sft))
    expected = ["What is 3 - 4?", LONG.replace("seven", "7")]
    assert prepared.prompts("train") == prepared.prompts("sft") == expected
    assert prepared.tally("train").removed == prepared.tally("sft").removed == {Reason.CONTAMINATED: 2}
    assert prepared.prompts("benchmarks/held-out") == [LONG, "What is 3 + 4?"]


def test_each_removal_is_listed_beside_what_it_overlaps(configure, run):
    train = rows(f"Now {LONG.upper()}!", "What is 3 + 5?", "what is 3+4")
    prepared = run(configure(train, rows(LONG, "What is 3 + 4?")))
    listed = [json.loads(line) for line in (prepared.folder / "overlaps.jsonl").read_text().splitlines()]
    assert [(one["set"], one["line"], one["prompt"]) for one in listed] == [
        ("train", 3, "what is 3+4"),
        ("train", 1, f"Now {LONG.upper()}!"),
    ]
    assert [(one["benchmark"], one["problem"], one["words"]) for one in listed] == [
        ("held-out", "What is 3 + 4?", "what is 3 + 4"),
        ("held-out", LONG, LONG),
    ]
    card = (prepared.folder / "data-card.md").read_text()
    assert "2 problems were removed, each listed beside what it overlaps in `overlaps.jsonl`; here all of them." in card
    assert f"train.jsonl, 1 | held-out | {LONG} |" in card


def test_problems_with_a_stock_ending_are_kept_though_they_wait_for_the_others(configure, run):
    stock = "where m and n are relatively prime positive integers. Find m+n"
    topics = [" ".join(f"{word}{n}" for word in ("red", "blue", "green", "pink", "grey")) for n in range(12)]
    train = rows(*(f"{topic} {stock}" for topic in topics), "What else?")
    prepared = run(configure(train, rows(f"A chord has a length of m/n, {stock}")))
    assert sorted(prepared.prompts()) == sorted(row["prompt"] for row in train)
    assert prepared.tally().removed == {}


def test_long_prompts_are_removed_template_included(configure, run):
    config = configure(
        rows("one two", "one two three"), rows("three four"), max_prompt_tokens=5, prompt_template="Q : {prompt} A"
    )
    prepared = run(config)
    assert prepared.prompts() == ["one two"]
    assert prepared.tally().removed == {Reason.TOO_MANY_TOKENS: 1}


def test_what_does_not_fit_into_the_models_context_is_removed(configure, run, write):
    """Of 9 tokens: a prompt of 9 leaves no room for a response, and a demonstration has an end."""
    eight, nine = "a b c d e f g h", "a b c d e f g h i"
    sft = [{"prompt": "one two", "answer": "1", "response": "a b c d e f"}]
    sft += [{"prompt": "two three", "answer": "1", "response": "a b c d e f g"}]
    config = configure(rows(eight, nine), rows("three"), {"uri": write("sft.jsonl", sft)}, max_prompt_tokens=2048)
    architecture = config.model.architecture.model_copy(update={"max_position_embeddings": 9})
    config = config.model_copy(update={"model": config.model.model_copy(update={"architecture": architecture})})
    prepared = run(config)
    assert prepared.prompts() == [eight] and prepared.tally().removed == {Reason.TOO_MANY_TOKENS: 1}
    assert prepared.prompts("sft") == ["one two"]
    assert prepared.tally("sft").removed == {Reason.LONG_DEMONSTRATION: 1}


def test_long_demonstrations_are_removed_their_end_counted(configure, run, write):
    train = rows("one", "two")
    sft = [{**train[0], "response": "a b c"}, {**train[1], "response": "a b c d"}]
    source = {"uri": write("sft.jsonl", sft), "max_demonstration_tokens": 4}
    prepared = run(configure(train, rows("three"), source))
    assert prepared.prompts("sft") == ["one"]
    assert prepared.tally("sft").removed == {Reason.LONG_DEMONSTRATION: 1}
    assert prepared.prompts() == ["one", "two"]
    card = (prepared.folder / "data-card.md").read_text()
    assert "So are rows of data.sft[0] whose demonstration is over 4 tokens, its end included." in card


REFUSES_TOOLS = (
    "{% for message in messages %}{% if '<tool' in message.content %}{{ raise_exception('a tool, and none is there') }}"
    "{% endif %}{{ message.content.split('</think>')[-1] }}{% endfor %}"
)


def test_a_row_that_the_chat_template_refuses_or_changes_is_set_aside(configure, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = REFUSES_TOOLS
    told = "<think> it </think> What is it"
    train, sft = rows("one", "call <tool", told), [{**row, "response": "r"} for row in rows("call <tool twice", "five")]
    config = configure(train, rows("four", "a </think> b"), sft, chat=True)
    manifest = prepare(config, tokenizer, tmp_path / "out", refusal=lambda *_: "", progress=lambda *_: None)
    prepared = Prepared(manifest, tmp_path / "out")
    assert (prepared.prompts(), prepared.prompts("sft")) == (["one"], ["five"])
    assert [one.quarantined.get(Reason.UNRENDERABLE) for one in manifest.sources] == [1, 2, 1]
    aside = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert ["a tool, and none is there" in one["detail"] for one in aside] == [False, True, False, True]

    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(DataError, match=r"data\.chat: the chat template .* refuses a problem .*never"):
        prepare(config, tokenizer, tmp_path / "out", refusal=lambda *_: "", progress=lambda *_: None)


def test_what_the_tokenizer_cannot_encode_is_set_aside(configure, run):
    config = configure(rows("1 2", "1 unheard-of", "3 4"), rows("0 0"))
    prepared = run(config, tokenizer=load_tokenizer(config.model))
    assert prepared.prompts() == ["1 2", "3 4"]
    assert prepared.quarantined == [(2, Reason.UNENCODABLE)]


def test_a_row_at_which_the_tokenizer_breaks_down_is_set_aside(configure, run, tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    panics = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="<end>")
    hostile = "a" * 40 + "!"  # its library gives up, and Rust panics
    sft = [{"prompt": p, "answer": "1", "response": r} for p, r in (("one", "r"), ("two", hostile))]
    prepared = run(configure(rows("one", hostile, "three"), rows("four"), sft), tokenizer=panics)
    assert (prepared.prompts(), prepared.prompts("sft")) == (["one", "three"], ["one"])
    assert [reason for _, reason in prepared.quarantined] == [Reason.UNENCODABLE] * 2


def test_warm_up_set_keeps_several_demonstrations_and_problems_of_train(configure, run):
    demonstrations = [{"prompt": "A?", "answer": "1", "response": response} for response in ("x", "y", "x")]
    prepared = run(configure(rows("A?"), sft=demonstrations))
    assert [problem.response for problem in prepared.problems("sft")] == ["x", "y"]
    assert prepared.problems("train")[0].response == ""


def test_split_depends_on_nothing_but_the_content(configure, run):
    prompts = [f"Problem number {n}?" for n in range(2000)]
    everything = run(configure(rows(*prompts), validation_fraction=0.2))
    held_out = set(everything.prompts("validation"))
    # Binomial with n = 2,000: three standard deviations are 54.
    assert abs(len(held_out) - 400) < 54
    assert held_out.isdisjoint(everything.prompts("train"))
    half = run(configure(rows(*reversed(prompts[::2])), validation_fraction=0.2))
    assert set(half.prompts("validation")) == held_out & set(prompts[::2])


def test_same_input_same_bytes_whatever_the_hash_seed(configure, run, tmp_path, tokenizer):
    train = rows(*(f"{LONG} {n % 40} {n}" for n in range(200)))
    config = configure([*train, b"broken\n"], validation_fraction=0.3)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    script = (
        "import sys; from pathlib import Path; from transformers import PreTrainedTokenizerFast\n"
        "from fipo.config import load_config; from fipo.data.prepare import prepare\n"
        "tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[3])\n"
        "prepare(load_config(sys.argv[1]), tokenizer, Path(sys.argv[2]), refusal=lambda *item: '')"
    )
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    arguments = [tmp_path / "config.yaml", tmp_path / "other", tmp_path / "tokenizer.json"]
    command = [sys.executable, "-c", script, *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "12345"})
    here, other = digests(run(config).folder), digests(tmp_path / "other")
    assert len(here) == 8
    assert here == other


def test_manifest_accounts_for_every_row_and_file(configure, run):
    config = configure([*rows("A?", "B?", "A?"), b"broken\n"], sft=[{"prompt": "C?", "answer": 1, "response": "r"}])
    prepared = run(config)
    manifest = Manifest.read(prepared.folder)
    assert manifest == prepared.manifest
    for tally in manifest.sources:
        assert tally.read == sum(tally.quarantined.values()) + sum(tally.removed.values()) + tally.kept
    assert {name: file.rows for name, file in manifest.files.items()} == {
        "benchmarks/held-out.parquet": 1,
        "train.parquet": 2,
        "validation.parquet": 0,
        "sft.parquet": 1,
        "sft-validation.parquet": 0,
    }
    assert manifest.counts == {
        "read": 6,
        "quarantined": 1,
        "removed": 1,
        **{name.removesuffix(".parquet"): file.rows for name, file in manifest.files.items()},
    }
    assert manifest.config == config.data.model_dump(mode="json")
    manifest.verify(prepared.folder)
    (prepared.folder / "train.parquet").write_bytes(b"other")
    with pytest.raises(DataError, match=r"train\.parquet was changed: SHA-256 d9298a10"):
        manifest.verify(prepared.folder)


def test_chat_without_a_template_is_no_fault_of_the_rows(configure, run):
    with pytest.raises(DataError, match=r"data\.chat: the tokenizer .* has no chat template"):
        run(configure(rows("A?"), chat=True))


def test_preparing_again_replaces_what_was_there(configure, run):
    killed = run(configure(rows("A?"), sft=[{"prompt": "C?", "answer": 1, "response": "r"}]))
    (killed.folder / ".staging-abc").mkdir()
    (killed.folder / ".staging-abc" / "problems.jsonl").touch()
    prepared = run(configure(rows("B?")))
    assert prepared.prompts() == ["B?"]
    assert not (prepared.folder / "sft.parquet").exists()
    assert not list(prepared.folder.glob(".staging*"))


@pytest.mark.parametrize(
    ("sets", "field"),
    [
        ({"rows": [b"broken\n", b"broken\n", *rows("Q?")]}, "data.train"),
        ({"rows": rows("A?"), "benchmark": [b"broken\n"]}, "data.benchmarks.held-out"),
        ({"rows": rows("A?"), "sft": rows("C?"), "sft_steps": 1}, "data.sft"),
    ],
)
def test_an_empty_result_stops_with_the_reasons(configure, run, sets, field):
    config = configure(**{"benchmark": rows("Q?"), **sets})
    with pytest.raises(DataError) as caught:
        run(config)
    assert str(caught.value).startswith(f"{field}: no problem is left. ")
    assert "quarantine.jsonl" in str(caught.value)


def test_reasons_of_an_empty_set_are_counted(configure, run):
    config = configure([b"broken\n", b"broken\n", *rows("Q?")], rows("Q?"))
    with pytest.raises(DataError, match=r"3 rows read; 2 not JSON, 1 overlaps a benchmark\. The rows set aside are in"):
        run(config)
    with pytest.raises(DataError, match=r"run `fipo prepare` first"):
        Manifest.read(config.run_directory)


def test_demo_recipe(run):
    config = load_config("demo")
    prepared = run(config, tokenizer=load_tokenizer(config.model))
    counts = prepared.manifest.counts
    assert counts["benchmarks/running-sums"] == 256
    assert counts["train"] + counts["validation"] >= 3990
    assert prepared.quarantined == []
    held_out = set(prepared.prompts("benchmarks/running-sums"))
    assert held_out.isdisjoint([*prepared.prompts("train"), *prepared.prompts("sft")])
    assert {reason for tally in prepared.manifest.sources for reason in tally.removed} <= {Reason.CONTAMINATED}
