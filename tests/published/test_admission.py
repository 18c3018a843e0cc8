"""A published model, as it is and as people break it: admitted, or refused by the name of the fault."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fipo.config import Distributed, Lora, Model, load_config
from fipo.distributed import packed_attention
from fipo.distributed.engine import TrainingEngine
from fipo.errors import AdmissionError
from fipo.models import load_model, load_stops, load_tokenizer
from fipo.models.head import Head
from fipo.models.lora import add_adapter
from fipo.rollout.transformers import TransformersEngine
from fipo.training.admission import admit
from fipo.training.job import Job
from tests.published.problems import problems

RECIPE = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"
pytestmark = pytest.mark.timeout(7200)
LONGEST = 192
"""Positions: a prompt of these tests has some 85 tokens, and with the end of its response some 100."""
WINDOW = 110


class Case:
    """The model in training beside an engine, before it is broken; one for all tests."""

    def __init__(self, published, world, lora=None, precision="fp32"):
        self.world, start = world, Model(name_or_path=str(published.folder))
        self.tokenizer = load_tokenizer(start)
        self.stops = load_stops(start, self.tokenizer)
        self.config = load_config(RECIPE, [f"data.max_prompt_tokens={LONGEST - 64}", "rollout.max_response_tokens=64"])
        self.model = load_model(start)
        self.copied = copy.deepcopy(self.model) if lora else self.model
        if lora:
            add_adapter(self.model, lora, seed=0)
        distributed = Distributed(precision=precision, timeout_seconds=600)
        self.engine = TrainingEngine(self.model, self.config.train, distributed, world)
        self.rollout = None  # the embedded engine
        self.prompts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, return_dict=False
            )
            for row in problems(4, seed=3)
        ]

    def admit(self, *, sampled=True, **other):
        """`sampled`: beside the engine, too; each token that it samples reads all weights."""
        rollout = self.rollout or TransformersEngine(
            self.copied,
            eos_token_id=other.pop("engine_stops", self.stops.ids),
            pad_token_id=self.tokenizer.pad_token_id,
            max_batch_tokens=8192,
            in_training=self.copied is self.model,
        )
        given: dict[str, Any] = {"config": self.config, "tokenizer": self.tokenizer, "stops": self.stops}
        given |= {"prompts": self.prompts} | other
        workspace: Any = SimpleNamespace(step="train")
        progress: Any = None
        job = Job(given["config"], self.world, workspace, None, progress)
        engine = rollout if sampled else None
        return admit(job, self.engine, given["tokenizer"], given["stops"], given["prompts"], engine)

    def refused(self, **other):
        with pytest.raises(AdmissionError) as refusal:
            self.admit(**other)
        return {line.strip().split(":")[0] for line in str(refusal.value).splitlines()[1:]}


@pytest.fixture(scope="module")
def once():
    return {}


@pytest.fixture
def case(once, published, world):
    if "case" not in once:  # a gigabyte of a published model, which DeepSpeed keeps as long as the process lives
        once["case"] = Case(published, world)
    return once["case"]


def test_it_is_admitted(case):
    admission = case.admit()
    assert admission.positions == LONGEST and "<|im_end|>" in admission.stops


def test_it_is_admitted_with_an_adapter(published, world):
    checks = Case(published, world, Lora(rank=8)).admit().checks
    assert "adapter" in [check.name for check in checks]


def test_a_scaled_head(case, monkeypatch):
    monkeypatch.setattr(case.engine.module, "head", Head(scale=1.25))
    refused = case.refused(sampled=False)
    assert "head" in refused and "packed rows" not in refused, "it is the same in both layouts"


def attending(monkeypatch, change):
    """Packed attention, called with something else than the model asked for."""
    right = packed_attention._by_length

    def wrong(query, key, value, cu_seq_lens, scaling, window=None, softcap=None):
        ends, window = change(cu_seq_lens, window)
        return right(query, key, value, ends, scaling, window, softcap)

    monkeypatch.setattr(packed_attention, "_by_length", wrong)


def test_rows_that_see_each_other(case, monkeypatch):
    attending(monkeypatch, lambda ends, window: (ends[[0, -1]], window))
    assert case.refused(sampled=False) == {"packed rows"}


def test_a_wrong_window(case, monkeypatch):
    attending(monkeypatch, lambda ends, window: (ends, WINDOW))
    assert case.refused(sampled=False) == {"long row alone"}


def test_a_missing_stop_token(case):
    """The model ends a turn with one more token than the engine was told of."""
    assert case.refused(engine_stops=case.stops.ids, stops=replace(case.stops, ids=(*case.stops.ids, 9))) == {
        "stop tokens"
    }


def test_an_end_after_the_prompt(case):
    assert case.refused(prompts=[[*prompt, case.stops.end_of_sequence] for prompt in case.prompts]) == {"prompts"}


def test_rounded_rotary_frequencies(case):
    buffers = [buffer for name, buffer in case.model.named_buffers() if "inv_freq" in name]
    before = [buffer.clone() for buffer in buffers]
    for buffer in buffers:
        buffer.copy_(buffer.bfloat16())
    refused = case.refused()
    for buffer, exact in zip(buffers, before):
        buffer.copy_(exact)
    assert refused == {"rotary angles"}


def test_a_cut_distribution(case):
    cut = case.config.rollout.model_copy(update={"top_p": 0.7})  # which no recipe may say
    assert "importance weight" in case.refused(config=case.config.model_copy(update={"rollout": cut}))


def test_a_short_embedding(case):
    larger = copy.deepcopy(case.tokenizer)
    larger.add_tokens([f"<extra {index}>" for index in range(3)])
    assert case.refused(tokenizer=larger) == {"embedding"}
