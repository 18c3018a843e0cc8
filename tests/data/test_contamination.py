"""Training data that were not prepared against a benchmark are found out."""

import pytest

from fipo.config import load_config
from fipo.data.contamination import contaminated
from fipo.data.prepare import prepare
from fipo.data.schema import Problem, content_id
from fipo.errors import DataError

KNOWN = "a train leaves the station at noon and meets another one after how many of these long hours"
FRESH = "how many ways are there to colour the faces of a cube with three colours when turning it is allowed"
SHORT = "what is 2 + 3 * 4"


def problem(prompt):
    return Problem(content_id(prompt), prompt, "1")


@pytest.fixture
def training(write, tokenizer, tmp_path):
    """Prepared against a benchmark that holds none of these."""
    rows = [f"problem {n} is about {n + 7} apples and {n * 3} pears" for n in range(20)]
    rows += [f"Please think. {KNOWN.upper()}", SHORT]
    train = write("train.jsonl", [{"prompt": row, "answer": str(n)} for n, row in enumerate(rows)])
    held_out = write("held-out.jsonl", [{"prompt": "nothing of the kind", "answer": "1"}])
    settings = [f"data.train=[{{uri: {train}}}]", "data.sft=[]", f"data.benchmarks={{held-out: {{uri: {held_out}}}}}"]
    config = load_config("demo", [*settings, "sft.steps=0", "data.validation_fraction=0"])
    prepare(config, tokenizer, tmp_path / "data", refusal=lambda *item: "", progress=lambda *_: None)
    return tmp_path / "data"


def test_problems_in_the_training_data_are_found(training):
    known, fresh, short = map(problem, (KNOWN, FRESH, SHORT))
    assert contaminated(training, [known, fresh, short], ngram=13) == {known.id, short.id}
    assert contaminated(training, [fresh], ngram=13) == frozenset()


def test_changed_training_data_are_not_taken_for_the_manifests(training):
    with (training / "train.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"train\.parquet was changed"):
        contaminated(training, [problem(FRESH)], ngram=13)
