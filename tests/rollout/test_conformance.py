"""What every rollout engine must do: `make test` asks it of the transformers engine, `make test-vllm` of vLLM's."""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup
from fipo.config import Architecture, Model
from fipo.environments.host import Host
from fipo.errors import RolloutError
from fipo.models import load_tokenizer
from fipo.models.stops import Stops
from fipo.rewards.sandbox.client import Limits
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.observations import Observations
from fipo.rollout.transformers import TransformersEngine
from fipo.rollout.turns import TurnsEngine

VOCABULARY, CONTEXT, STOP, PAD = 64, 384, 1, 0
LONG = 280
"""Prompt tokens: more than two of vLLM's cache blocks, of 128 positions on a CPU."""

HAS_VLLM = importlib.util.find_spec("vllm") is not None
KINDS = ["vllm-colocated", "vllm-served"] if HAS_VLLM else ["transformers"]


@dataclass(frozen=True)
class Subject:
    """An engine, a plain transformers model with the weights that it should have, and whether its head is tied."""

    engine: RolloutEngine
    reference: PreTrainedModel

    def sync(self, seed: int, version: int) -> None:
        """Give both new weights."""
        new = build(seed, tied=self.reference.config.tie_word_embeddings)
        self.reference.load_state_dict(new.state_dict())
        self.engine.load_weights(new.named_parameters(), version)


def build(seed: int, *, tied: bool) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        initializer_range=0.08,
        pad_token_id=PAD,
        eos_token_id=STOP,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    model.eval()
    return model


@pytest.fixture(scope="module", params=[(kind, tied) for kind in KINDS for tied in (True, False)], ids=str)
def subject(request, tmp_path_factory):
    kind, tied = request.param
    model, folder = build(0, tied=tied), tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    with contextlib.ExitStack() as stack:
        engine = open_engine(kind, model, str(folder), stack, request)
        subject = Subject(engine, build(0, tied=tied))
        subject.sync(0, 0)
        yield subject
        engine.close()
        engine.close()


def open_engine(kind: str, model: PreTrainedModel, folder: str, stack: contextlib.ExitStack, request) -> RolloutEngine:
    if kind == "transformers":
        return TransformersEngine(model, eos_token_id=STOP, pad_token_id=PAD, max_batch_tokens=16384)
    if kind == "vllm-colocated":
        from fipo.rollout.vllm import VllmEngine

        return VllmEngine(folder, eos_token_id=STOP, context=CONTEXT, dtype="float32")
    from fipo.rollout.served.engine import ServedVllmEngine

    (url,) = stack.enter_context(request.getfixturevalue("vllm_servers").running(folder, CONTEXT, 1))
    return ServedVllmEngine(
        [url], model=folder, eos_token_id=STOP, context=CONTEXT, dtype=torch.float32, transfer="gloo"
    )


def prompts(count: int, tokens: int, seed: int = 0) -> list[Prompt]:
    random = np.random.default_rng(seed)
    rows = random.integers(2, VOCABULARY, size=(count, tokens)).tolist()
    return [
        Prompt(id=f"{seed:x}{index:06x}", text="", token_ids=tuple(row), answer="") for index, row in enumerate(rows)
    ]


def rollouts(groups: list[RolloutGroup]) -> list[tuple[Prompt, Rollout]]:
    return [(group.prompt, rollout) for group in groups for rollout in group.rollouts]


@torch.no_grad()
def trainer_log_probs(model: PreTrainedModel, prompt: Prompt, rollout: Rollout, temperature: float) -> np.ndarray:
    ids = torch.tensor([[*prompt.token_ids, *rollout.token_ids.tolist()]])
    log_probs = torch.log_softmax(model(ids).logits[0] / temperature, dim=-1)
    start = len(prompt.token_ids)
    return log_probs[start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0].numpy()


@torch.no_grad()
def greedy(model: PreTrainedModel, prompt: Prompt, tokens: int) -> list[int]:
    ids = list(prompt.token_ids)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == STOP:
            break
    return ids[len(prompt.token_ids) :]


def test_greedy_tokens_follow_the_new_weights(subject):
    asked, sampling = prompts(3, LONG), Sampling(group_size=2, max_response_tokens=16, temperature=0.0)
    answers = []
    for version, seed in enumerate((11, 12, 11), start=1):
        subject.sync(seed, version)
        groups = subject.engine.generate(asked, sampling)
        answers.append([rollout.token_ids.tolist() for _, rollout in rollouts(groups)])
        assert answers[-1] == [greedy(subject.reference, prompt, 16) for prompt in asked for _ in range(2)]
        assert {rollout.weight_version for _, rollout in rollouts(groups)} == {version}
    assert answers[0] == answers[2] != answers[1]


def test_a_prompt_drawn_again_is_answered_anew(subject):
    subject.sync(13, 4)
    [prompt] = prompts(1, LONG)
    drawn = [replace(prompt, draw=draw) for draw in (0, 1, 2)]
    groups = subject.engine.generate([*drawn, prompt], Sampling(group_size=4, max_response_tokens=24))
    *new, first = [tuple(tuple(rollout.token_ids.tolist()) for rollout in group.rollouts) for group in groups]
    assert len({response for group in new for response in group}) == 3 * 4
    assert new[0] == first


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probs_are_the_trainers(subject, temperature):
    subject.sync(13, 4)
    groups = subject.engine.generate(prompts(8, LONG), Sampling(8, 48, temperature=temperature))
    ratios = [
        np.exp(trainer_log_probs(subject.reference, prompt, rollout, temperature) - rollout.log_probs)
        for prompt, rollout in rollouts(groups)
    ]
    ratio = np.concatenate(ratios)
    assert len(ratio) > 1000
    assert abs(ratio.mean() - 1.0) < 1e-3
    assert abs(ratio - 1.0).max() < 1e-2


def test_the_nucleus_is_normalised(subject):
    subject.sync(13, 4)
    (group,) = subject.engine.generate(prompts(1, 8), Sampling(64, 1, top_p=0.5))
    # The fewest tokens whose probabilities reach one half, from the plain model.
    with torch.no_grad():
        probabilities = subject.reference(torch.tensor([group.prompt.token_ids])).logits[0, -1].softmax(dim=-1)
    ordered, order = probabilities.sort(descending=True)
    size = int((ordered.cumsum(0) < 0.5).sum()) + 1
    nucleus = dict(zip(order[:size].tolist(), (ordered[:size] / ordered[:size].sum()).log().tolist()))
    for rollout in group.rollouts:
        assert rollout.log_probs[0] == pytest.approx(nucleus[rollout.token_ids[0]], abs=1e-3)


def test_groups_come_in_order_and_their_responses_differ(subject):
    asked = prompts(5, 12)[::-1]
    groups = subject.engine.generate(asked, Sampling(group_size=6, max_response_tokens=20))
    assert [group.prompt for group in groups] == asked
    assert all(len(group.rollouts) == 6 for group in groups)
    assert all(len({tuple(rollout.token_ids.tolist()) for rollout in group.rollouts}) > 3 for group in groups)


def test_the_seed_determines_the_responses(subject):
    asked = prompts(4, 12)
    runs = [
        [
            rollout.token_ids.tolist()
            for _, rollout in rollouts(subject.engine.generate(some, Sampling(2, 12, seed=seed)))
        ]
        for some, seed in ((asked, 7), (asked, 7), (asked, 8), (asked[2:], 7))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0][4:] == runs[3], "a response depends on the prompts around it"


def test_responses_end_at_the_stop_token_or_the_limit(subject):
    found = rollouts(subject.engine.generate(prompts(16, 12), Sampling(8, 24)))
    assert {rollout.finish_reason for _, rollout in found} == {FinishReason.STOP, FinishReason.LENGTH}
    for _, rollout in found:
        assert rollout.token_ids.dtype == np.int32 and rollout.log_probs.dtype == np.float32
        assert len(rollout.token_ids) == len(rollout.log_probs)
        assert STOP not in rollout.token_ids[:-1]
        if rollout.finish_reason is FinishReason.STOP:
            assert rollout.token_ids[-1] == STOP
        else:
            assert len(rollout.token_ids) == 24


def test_the_context_bounds_the_response(subject):
    (group,) = subject.engine.generate(prompts(1, CONTEXT - 3), Sampling(group_size=2, max_response_tokens=50))
    assert all(len(rollout.token_ids) <= 3 for rollout in group.rollouts)


def test_a_prompt_may_have_less_room_than_others(subject):
    asked = [replace(prompt, room=room) for prompt, room in zip(prompts(8, 12), (1, 3, None, 50) * 2)]
    groups = subject.engine.generate(asked, Sampling(8, 24))
    assert [max(len(rollout.token_ids) for rollout in group.rollouts) for group in groups] == [1, 3, 24, 24] * 2


@pytest.mark.parametrize("tokens", [0, CONTEXT])
def test_prompts_without_room_are_refused(subject, tokens):
    with pytest.raises(RolloutError, match=rf"must have 1 to {CONTEXT - 1} tokens.*got {tokens}"):
        subject.engine.generate(prompts(1, tokens), Sampling(1, 4))


def test_no_prompts_make_no_groups(subject):
    assert subject.engine.generate([], Sampling(2, 4)) == []


def test_groups_are_told_of_when_they_are_complete(subject):
    seen, early = [], list[RolloutGroup]()
    groups = subject.engine.generate(
        prompts(4, 12), Sampling(3, 8), lambda done, total: seen.append((done, total)), early.append
    )
    assert {id(group) for group in early} == {id(group) for group in groups} and len(early) == 4
    assert seen[-1] == (12, 12) and [done for done, _ in seen] == sorted(done for done, _ in seen)


class Thrice:
    """Answers the first two turns."""

    def reset(self, prompt, reference, columns):
        self.left = 2

    def step(self, text):
        self.left -= 1
        return "w7 w8 w9" if self.left >= 0 else None

    def grade(self): ...


def turning(engine: RolloutEngine) -> TurnsEngine:
    """The engine with turns; `w7` is token 9."""
    vocabulary = tuple(f"w{index}" for index in range(VOCABULARY - 2))
    tokenizer = load_tokenizer(Model(architecture=Architecture(vocabulary=vocabulary)))
    observations = Observations(tokenizer, Stops((STOP,), None, STOP), chat=False, max_tokens=8)
    return TurnsEngine(engine, Host(2, Limits()), observations, tokenizer, max_turns=8, context=CONTEXT)


def test_turns_go_on_from_the_tokens_as_they_were_sampled(subject):
    subject.sync(13, 4)
    asked = [replace(prompt, environment="tests.rollout.test_conformance:Thrice") for prompt in prompts(16, 12)]
    found = rollouts(turning(subject.engine).generate(asked, Sampling(8, 64)))
    assert {rollout.turns for _, rollout in found} == {1, 2, 3}
    for prompt, rollout in found:
        own = rollout.own
        ratio = np.exp(trainer_log_probs(subject.reference, prompt, rollout, 1.0) - rollout.log_probs)[own]
        assert abs(ratio - 1.0).max() < 1e-2
        # Three tokens after each turn but the last, which alone may be cut.
        turns = np.split(rollout.token_ids, np.flatnonzero(np.diff(own)) + 1)
        assert all(turn.tolist() == [9, 10, 11] for turn in turns[1::2])
        assert all(turn[-1] == STOP and STOP not in turn[:-1] for turn in turns[:-1:2])
        assert (rollout.finish_reason is FinishReason.STOP) == (rollout.turns == 3 and turns[-1][-1] == STOP)
        assert rollout.finish_reason is FinishReason.STOP or len(rollout.token_ids) > 60


def test_turns_depend_on_the_seed_and_not_on_who_else_is_asked(subject):
    asked = [replace(prompt, environment="tests.rollout.test_conformance:Thrice") for prompt in prompts(6, 12)]
    engine, runs = turning(subject.engine), []
    for some, seed in ((asked, 7), (asked, 7), (asked, 8), (asked[3:], 7)):
        found = rollouts(engine.generate(some, Sampling(2, 40, seed=seed)))
        runs.append([rollout.token_ids.tolist() for _, rollout in found])
    assert runs[0] == runs[1] != runs[2] and runs[0][6:] == runs[3]


def test_weights_that_do_not_fit_are_refused(subject):
    weights = dict(build(0, tied=subject.reference.config.tie_word_embeddings).named_parameters())
    name = "model.layers.1.mlp.down_proj.weight"
    with pytest.raises(RolloutError, match="down_proj"):
        subject.engine.load_weights([(key, value) for key, value in weights.items() if key != name], version=9)
    with pytest.raises(RolloutError, match=r"surplus\.weight"):
        subject.engine.load_weights([*weights.items(), ("surplus.weight", torch.zeros(2, 2))], version=9)
    subject.sync(14, 10)
    (group,) = subject.engine.generate(prompts(1, 12), Sampling(1, 8, temperature=0.0))
    assert group.rollouts[0].token_ids.tolist() == greedy(subject.reference, group.prompt, 8)
