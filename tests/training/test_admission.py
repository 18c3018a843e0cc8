"""Admission: models that are right pass, and each fault is refused by its name."""

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fipo.config import Distributed, Lora, load_config
from fipo.distributed import packed_attention
from fipo.distributed.engine import TrainingEngine
from fipo.errors import AdmissionError
from fipo.models.head import Head
from fipo.models.lora import Adapter, add_adapter
from fipo.models.precision import place
from fipo.models.stops import stops_of
from fipo.records import Admission
from fipo.rollout.transformers import TransformersEngine
from fipo.run.result import StepResult
from fipo.training.admission import admit, mismatch_warning
from fipo.training.job import Job
from tests.models.families import FAMILIES, build, tokenizer_of
from tests.present import present

CONFIG = load_config(
    Path(__file__).parents[1] / "pipelines" / "tiny.yaml",
    ["data.max_prompt_tokens=80", "rollout.max_response_tokens=20", "rollout.temperature=0.9"],
)
LONGEST = 100


class Case:
    """A run that is right, to be broken: `family` with windows shorter than the longest row."""

    def __init__(self, world, family, precision="fp32", saving=False, **settings):
        self.model = build(family, **settings)
        for parameter in self.model.parameters():
            parameter.data.mul_(0.6)  # as sure of its tokens as a trained one, and no surer
        self.tokenizer = tokenizer_of(96)
        self.stops = stops_of(self.tokenizer, self.model.config, None)
        self.prompts = [[5, 6, 7], [9] * 12, [40, 41, 42, 43, 44], [90, 2], [3, 4, 5, 6, 7, 8]]
        self.config = CONFIG
        distributed = Distributed(precision=precision, activation_checkpointing=saving, timeout_seconds=60)
        self.engine = TrainingEngine(self.model, CONFIG.train, distributed, world, temperature=0.9)
        self.rollout = self.sampler(self.stops.ids)
        self.said = []

    def sampler(self, stop_ids):
        return TransformersEngine(self.model, eos_token_id=stop_ids, pad_token_id=0, max_batch_tokens=4096)

    def admit(self):
        workspace: Any = SimpleNamespace(step="train")
        progress: Any = None
        job = Job(self.config, self.engine.world, workspace, None, progress)
        return admit(job, self.engine, self.tokenizer, self.stops, self.prompts, self.rollout)

    def refused(self):
        with pytest.raises(AdmissionError) as refusal:
            self.admit()
        return {line.strip().split(":")[0]: line for line in str(refusal.value).splitlines()[1:]}


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("qwen3", "fp32"),
        ("gemma2", "fp32"),
        ("granite", "fp32"),
        ("stablelm", "fp32"),
        ("mixtral", "fp32"),
        ("gptj", "fp32"),
        ("mistral", "bf16"),
    ],
)
def test_a_model_that_is_right_is_admitted(world, family, precision, capsys):
    case = Case(world, family, precision)
    modes = [module.training for module in case.model.modules()]
    admission = case.admit()
    assert not admission.failed and admission.positions == LONGEST and admission.stops == "<end>"
    assert len(admission.checks) == len(admission.table()) == (14 if family == "mixtral" else 13)
    record = json.loads(json.dumps(asdict(admission)))
    assert StepResult("train", "f" * 64, 1.0, record=record).read(Admission) == admission
    assert [module.training for module in case.model.modules()] == modes
    assert (admission.fallbacks != ()) is (family in ("stablelm", "gptj"))
    printed = capsys.readouterr().out
    assert "stops at: <end>" in printed and "packed rows" in printed


def test_without_an_engine_the_trainer_is_held_against_transformers(world):
    case = Case(world, "cohere")
    case.rollout = None
    assert [check.name for check in case.admit().checks if check.unit == "nats"] == [
        "head", "rows alone", "long row alone", "packed rows",
    ]  # fmt: skip
    case.engine.module.head = Head()
    assert "head" in case.refused()


def test_a_scaled_head(world):
    case = Case(world, "granite")
    head = present(case.engine.module.head)
    case.engine.module.head = replace(head, scale=head.scale * 1.5)
    refused = case.refused()
    assert "must be at most 0.001 nats; measured" in refused["head"]
    assert "packed rows" not in refused, "it is the same in both layouts"


def test_rows_that_see_each_other(world, monkeypatch):
    case = Case(world, "llama")
    right = packed_attention._by_length

    def leaking(query, key, value, cu_seq_lens, *how):
        return right(query, key, value, cu_seq_lens[[0, -1]], *how)

    monkeypatch.setattr(packed_attention, "_by_length", leaking)
    refused = case.refused()
    assert "packed rows" in refused and "rows alone" not in refused and "head" not in refused


def test_a_wrong_window(world, monkeypatch):
    case = Case(world, "mistral", sliding_window=40)
    right = packed_attention._by_length

    def everywhere(query, key, value, cu_seq_lens, scaling, window=None, softcap=None):
        return right(query, key, value, cu_seq_lens, scaling, None, softcap)

    monkeypatch.setattr(packed_attention, "_by_length", everywhere)
    refused = case.refused()
    assert set(refused) == {"long row alone", "engine, long row"}
    assert "100 tokens" in refused["long row alone"]


def test_an_engine_without_the_window(world):
    case = Case(world, "starcoder2", sliding_window=40)
    case.rollout._windows = False
    assert "engine, long row" in case.refused()


def test_a_missing_stop_token(world):
    case = Case(world, "qwen2")
    case.stops = replace(case.stops, ids=(1, 7))
    case.prompts = [[5, 6, 8]]
    assert "does not stop at 7" in case.refused()["stop tokens"]


def test_an_engine_that_runs_past_the_end(world):
    case = Case(world, "qwen2")
    case.stops = replace(case.stops, ids=tuple(range(1, 60)))
    case.prompts = [[61, 62, 63]]
    case.rollout.stop_ids = frozenset()
    case.rollout = type("Deaf", (), {"stop_ids": frozenset(case.stops.ids), "sleep": lambda self: None,
        "generate": case.rollout.generate, "load_weights": case.rollout.load_weights})()  # fmt: skip
    assert "past the end" in case.refused()


def test_an_end_after_the_prompt(world):
    case = Case(world, "qwen2")
    case.prompts = [[*prompt, 1] for prompt in case.prompts]
    assert "add_eos_token" in case.refused()["prompts"]


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_rounded_rotary_frequencies(world, family):
    case = Case(world, family)
    for name, buffer in case.model.named_buffers():
        if "inv_freq" in name:
            buffer.copy_(buffer.bfloat16())
    assert "radians" in case.refused()["rotary angles"]


@pytest.mark.parametrize(("family", "switch"), [("phi3", 40), ("llama", 99), ("phi4", 100)])
def test_frequencies_that_change_with_the_length(world, family, switch):
    """Rows here have up to 100 tokens: above what the model switches at, each is sampled by two models."""
    half = int(8 * FAMILIES[family][1].get("partial_rotary_factor", 1.0)) // 2
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": switch}
    rope |= {"short_factor": [1.0] * half, "long_factor": [3.0] * half}
    rope |= {name: FAMILIES[family][1][name] for name in ("partial_rotary_factor",) if name in FAMILIES[family][1]}
    case = Case(world, family, rope_parameters=rope, original_max_position_embeddings=switch)
    if switch >= LONGEST:
        assert not case.admit().failed
    else:
        assert "original_max_position_embeddings" in case.refused()["rotary lengths"]


def test_a_cut_distribution(world):
    case = Case(world, "llama")
    cut = CONFIG.rollout.model_copy(update={"top_p": 0.8})  # which no recipe may say
    case.config = CONFIG.model_copy(update={"rollout": cut})
    assert "top_p" in case.refused()["importance weight"]


def test_a_short_embedding(world):
    case = Case(world, "qwen2")
    case.tokenizer = tokenizer_of(99)
    refused = case.refused()
    assert "tokens up to 98, and the model's embedding and head 96 rows" in refused["embedding"]
    assert "head" not in refused, "such a model cannot be asked"


def test_dropout_is_off_with_less_memory_too(world):
    """Phi-2 was published with 0.1; a layer is checkpointed in training mode alone."""
    case = Case(world, "phi", saving=True, resid_pdrop=0.5, embd_pdrop=0.5, attention_dropout=0.5)
    layers = case.model.model.layers
    for _ in range(2):
        assert not case.admit().failed and all(layer.training for layer in layers)


def test_noise_in_training_is_refused(world):
    """The trainer is measured in the mode that it trains in; OPT's layers drop by themselves."""
    case = Case(world, "phi", resid_pdrop=0.5)
    case.model.train()
    refused = case.refused()
    assert {"rows alone", "engine"} <= set(refused) and "head" not in refused


def test_an_engine_that_attends_to_padding_shows_with_prompts_of_one_length(world, monkeypatch):
    """BART counts positions by what is before, padding or not."""
    own: dict[str, int | None] = {
        "d_model": 32,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 48,
        "bos_token_id": 2,
    }
    own |= {"decoder_start_token_id": 2, "forced_eos_token_id": None}
    monkeypatch.setitem(FAMILIES, "bart", ("Bart", own))
    case = Case(world, "bart")
    case.prompts = [[5, 6, 7, 8, 9], [40, 41, 42, 43, 44]]
    assert "engine" in case.refused()


def test_a_model_that_the_engine_cannot_ask_is_refused_by_name(world, monkeypatch):
    """BLOOM reads positions from its mask, which the engine's keys and values do not fit."""
    monkeypatch.setitem(FAMILIES, "bloom", ("Bloom", {}))
    with pytest.raises(AdmissionError, match=r"bloom is not admitted to training.*rollout engine.*ValueError"):
        Case(world, "bloom").admit()


def test_an_engine_with_other_weights(world):
    case = Case(world, "qwen3")
    case.rollout = TransformersEngine(build("qwen3", seed=5), eos_token_id=1, pad_token_id=0, max_batch_tokens=4096)
    case.rollout.load_weights = lambda source, version: None
    assert {"engine", "engine, long row"} <= set(case.refused())


def test_a_figure_that_is_no_number_is_refused(world):
    case = Case(world, "llama")
    case.model.lm_head.weight.data[3] = torch.nan
    assert "head" in case.refused()


def adapted(world, precision="fp32"):
    """An engine with a copy, as vLLM has one: the trainer adds the adapter's outputs, the engine its weights."""
    case = Case(world, "qwen2")
    copied = copy.deepcopy(case.model)
    if precision == "bf16":
        copied = place(copied, torch.bfloat16)
    add_adapter(case.model, Lora(rank=4), seed=1)
    distributed = Distributed(precision=precision, timeout_seconds=60)
    case.engine = TrainingEngine(case.model, CONFIG.train, distributed, world, temperature=0.9)
    case.rollout = TransformersEngine(copied, eos_token_id=case.stops.ids, pad_token_id=0, max_batch_tokens=4096)
    return case


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_is_admitted_and_left_as_it_was(world, precision):
    case = adapted(world, precision)
    before = case.engine.adapter()
    admission = case.admit()
    assert [check.figure for check in admission.checks if check.name == "adapter"] != [0.0]
    assert all(torch.equal(one, before[name]) for name, one in case.engine.adapter().items())
    shared = adapted(world, precision)
    shared.rollout = TransformersEngine(
        shared.model, eos_token_id=1, pad_token_id=0, max_batch_tokens=4096, in_training=True
    )
    assert [check.name for check in shared.admit().checks] == [check.name for check in admission.checks]


def test_an_adapter_that_is_merged_at_another_scale(world, monkeypatch):
    case = adapted(world)
    monkeypatch.setattr(Adapter, "added_to", lambda self, weight: weight.detach() + 2 * self.scale * self.b @ self.a)
    assert {"adapter", "engine"} <= set(case.refused())


def test_an_engine_that_never_gets_the_adapter(world):
    """A new adapter is zero: without any effect of it, this would go unseen."""
    case = adapted(world)
    case.rollout.load_weights = lambda source, version: None
    assert "engine" in case.refused()


def test_the_alarm_while_training():
    assert mismatch_warning(0.09, 0.1) is None
    assert "0.11 nats apart in the mean (rollout.mismatch_limit is 0.1)" in present(mismatch_warning(0.11, 0.1))
