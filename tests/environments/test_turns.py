"""Responses of several turns over an engine that says what it is told to: tokens, masks, limits, verdicts, order."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fipo.batch import FinishReason, Outcome, Prompt
from fipo.environments.host import Host
from fipo.errors import ConfigError, RolloutError
from fipo.rewards.sandbox.client import Limits
from fipo.rollout.engine import Sampling
from fipo.rollout.observations import Observations
from fipo.rollout.turns import TurnsEngine
from tests.environments import talkers

END, A, B, AGAIN = 1, 2, 3, 4
HERE = "tests.environments.talkers"


def prompt(name, reference="1", environment="Counter", **changes):
    environment = environment and f"{HERE}:{environment}"
    return replace(Prompt(name, f"problem {name}", (A, B), reference, environment=environment), **changes)


@pytest.fixture
def play(words):
    """`play(say, prompts, ...)`: the groups, and what the engine below was asked."""
    tokenizer, stops = words
    host = Host(4, Limits())
    talkers.Counter.made.clear()

    def play(say, prompts, *, tokens=100, size=1, turns=8, context=1000, ranks_together=1, **callbacks):
        engine = talkers.Scripted(say, context)
        engine.ranks_together = ranks_together
        observations = Observations(tokenizer, stops, chat=False, max_tokens=16)
        turning = TurnsEngine(engine, host, observations, tokenizer, max_turns=turns, context=context)
        groups = turning.generate(prompts, Sampling(size, tokens), **callbacks)
        return groups, engine.calls

    yield play
    host.close()


def says_a(prompt, index):
    return [A, END]


def test_turns_and_observations_by_hand(play):
    """Two observations: the tokens as sampled, what stands between them masked, each turn asked with all before it."""
    [group], calls = play(says_a, [prompt("p", "2", columns='{"scale": 3}')])
    [rollout] = group.rollouts
    assert rollout.token_ids.tolist() == [A, END, AGAIN, A, END, AGAIN, A, END]
    assert rollout.response_mask.tolist() == [True, True, False, True, True, False, True, True]
    assert rollout.log_probs.tolist() == [-0.25, -0.125, 0, -0.25, -0.125, 0, -0.25, -0.125]
    assert (rollout.own_tokens, rollout.turns, rollout.last_turn.tolist()) == (6, 3, [A, END])
    assert rollout.finish_reason is FinishReason.STOP and rollout.weight_version == 5
    assert rollout.grade.outcome is Outcome.CORRECT and rollout.grade.explanation == "3 turns"
    assert calls == [([[A, B]], 1), ([[A, B, A, END, AGAIN]], 1), ([[A, B, A, END, AGAIN, A, END, AGAIN]], 1)]
    [environment] = talkers.Counter.made
    assert environment.row == ("problem p", "2", {"scale": 3}) and environment.heard == ["a"] * 3
    assert rollout.token_ids.dtype == np.int32 and rollout.log_probs.dtype == np.float32


def test_turns_under_other_weights_say_so(play, monkeypatch):
    def says_a_under_newer_weights(prompt, index):
        if len(prompt.token_ids) > 2:
            monkeypatch.setattr(talkers.Scripted, "version", 6)
        return [A, END]

    [group], _ = play(says_a_under_newer_weights, [prompt("p", "1")])
    [rollout] = group.rollouts
    # The observation counts as of the turn before it: nobody sampled it.
    assert rollout.weight_version == 5 and rollout.versions.tolist() == [5, 5, 5, 6, 6]


def test_a_response_of_one_turn_is_as_without_an_environment(play):
    (one, none), _ = play(says_a, [prompt("p", "0", environment="Silent"), prompt("q", environment="")])
    for group in (one, none):
        [rollout] = group.rollouts
        assert rollout.token_ids.tolist() == [A, END] and rollout.response_mask is None and rollout.grade is None
        assert (rollout.own_tokens, rollout.turns, rollout.last_turn.tolist()) == (2, 1, [A, END])


def test_groups_go_on_apart_and_come_in_order(play):
    prompts = [prompt(f"{n}", str(n % 3)) for n in range(6)] + [prompt("plain", environment="")]
    told, progress = list[Any](), list[Any]()
    groups, calls = play(says_a, prompts, size=2, on_group=told.append, progress=lambda *seen: progress.append(seen))
    assert [group.prompt for group in groups] == prompts
    turns = [{rollout.turns for rollout in group.rollouts} for group in groups]
    assert turns == [{1}, {2}, {3}, {1}, {2}, {3}, {1}] and {len(group.rollouts) for group in groups} == {2}
    assert {id(group) for group in told} == {id(group) for group in groups} and len(told) == 7
    assert told[0].prompt.id == "plain", "who needs no answer does not wait for one"
    assert progress == [(done, 14) for done in range(1, 15)]
    assert [(len(asked), size) for asked, size in calls] == [(7, 2), (8, 1), (4, 1)]


def test_each_turn_has_random_numbers_of_its_own(play):
    seen = []

    def say(prompt, index):
        seen.append((prompt.draw_id, index))
        return [A, END]

    prompts = [prompt("p", "2"), prompt("p", "2", draw=1), prompt("q", "2")]
    play(say, prompts, size=2)
    assert len(seen) == 3 * 2 * 3 == len(set(seen))
    before = set(seen)
    seen.clear()
    play(say, prompts[1:], size=2)
    assert set(seen) < before, "they depend on who else is asked"


def test_the_limit_of_turns_truncates(play):
    [group], calls = play(says_a, [prompt("p", "5")], turns=3)
    [rollout] = group.rollouts
    assert rollout.turns == 3 and len(calls) == 3 and rollout.finish_reason is FinishReason.LENGTH
    assert rollout.own[-1] and rollout.token_ids[-1] == END, "no observation without a turn after it"
    assert rollout.grade.outcome is Outcome.WRONG and talkers.Counter.made[0].heard == ["a"] * 3
    [group], _ = play(says_a, [prompt("p", "2")], turns=3)
    assert group.rollouts[0].finish_reason is FinishReason.STOP, "who ends with the last turn is not truncated"


@pytest.mark.parametrize(
    ("tokens", "token_ids", "turns"),
    [
        (1, [A], 1),  # cut in the first turn
        (2, [A, END], 1),  # no room for the observation
        (3, [A, END], 1),  # nor for anything after it
        (4, [A, END, AGAIN, A], 2),  # cut in the second
        (5, [A, END, AGAIN, A, END], 2),
        (7, [A, END, AGAIN, A, END, AGAIN, A], 3),
    ],
)
def test_the_limit_of_tokens_counts_observations_too(play, tokens, token_ids, turns):
    for limits in ({"tokens": tokens}, {"context": tokens + 2}):
        [group], _ = play(says_a, [prompt("p", "5")], **limits)
        [rollout] = group.rollouts
        assert rollout.token_ids.tolist() == token_ids and rollout.turns == turns
        assert rollout.finish_reason is FinishReason.LENGTH and rollout.own[-1]
        assert talkers.Counter.made[-1].heard == ["a"] * (turns - (token_ids[-1] == A)), "half a turn is not answered"


def test_each_response_has_the_room_that_it_left(play):
    """Two responses of one call that have used unlike much: each is cut at the same limit."""

    def say(prompt, index):
        return [*([A] * (6 if index or "/1/" in prompt.id else 2)), END]

    [group], _ = play(say, [prompt("p", "9")], size=2, tokens=20)
    # Five turns of 3 with four observations between them; two of 7, and the 4 tokens that are left of the third.
    assert [(len(rollout.token_ids), rollout.turns) for rollout in group.rollouts] == [(19, 5), (20, 3)]


def test_ranks_that_share_a_model_call_alike(play):
    for reference in ("0", "2"):
        groups, calls = play(says_a, [prompt("p", reference)], turns=4, ranks_together=2)
        assert len(calls) == 4 and len(groups) == 1
    assert play(says_a, [], turns=4, ranks_together=2)[0] == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ("Broken", r"environment tests\.environments\.talkers:Broken, prompt p: KeyError: 'no luck'"),
        ("Odd", "Odd, prompt p: must give str or None; gave int"),
        ("Counter", "Counter, prompt p: ValueError: invalid literal"),
    ],
)
def test_a_fault_names_environment_and_prompt(play, environment, reason):
    reference = "x" if environment == "Counter" else "1"
    with pytest.raises(RolloutError, match=reason):
        play(says_a, [prompt("p", reference, environment=environment)])


def test_the_wrapped_engine_is_what_it_was(words):
    tokenizer, stops = words
    engine, host = talkers.Scripted(says_a), Host(1, Limits())
    turning = TurnsEngine(
        engine, host, Observations(tokenizer, stops, chat=False, max_tokens=8), tokenizer, max_turns=2, context=50
    )
    assert turning.stop_ids == {END} and turning.ranks_together == 1
    turning.load_weights([], 7)
    assert engine.version == 7
    turning.close()
    turning.close()
    assert engine.closed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:Class", "cannot be imported: ModuleNotFoundError"),
        (f"{HERE}:Absent", "cannot be imported: AttributeError"),
        (f"{HERE}:NoStep", "must be a class with the methods reset, step, grade; it has no step"),
    ],
)
def test_what_is_no_environment_is_refused(name, reason):
    from fipo.environments.registry import find

    with pytest.raises(ConfigError, match=f"environment '{name}' {reason}"):
        find(name)


def test_the_pages_environment_plays(play, tmp_path, monkeypatch):
    """The example of docs/environments.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "page_rooms.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    rooms = '{"map": {"hall": {"b": "attic"}, "attic": {"a": "hall", "b": "roof"}, "roof": {}}}'

    def say(prompt, index):
        return [A, END] if prompt.token_ids[-1] == A and len(prompt.token_ids) > 3 else [B, END]

    asked = replace(Prompt("p", "Go.", (A, B), "roof", environment="page_rooms:Rooms"), columns=rooms)
    [group], _ = play(say, [asked])
    assert group.rollouts[0].turns == 2 and group.rollouts[0].grade.explanation == "ended in roof"
    [group], _ = play(lambda prompt, index: [A, END], [asked], turns=3)
    assert group.rollouts[0].grade.explanation == "ended in hall" and group.rollouts[0].turns == 3


def test_who_is_interrupted_waits_for_no_answer(words):
    """Sixteen answers of half a second each for one thread: those that have not begun never do."""
    tokenizer, stops = words
    host = Host(1, Limits())

    class Stopped(talkers.Scripted):
        def generate(self, prompts, sampling, progress=None, on_group=None):
            super().generate(prompts, sampling, progress, on_group)
            raise KeyboardInterrupt

    observations = Observations(tokenizer, stops, chat=False, max_tokens=8)
    turning = TurnsEngine(Stopped(says_a), host, observations, tokenizer, max_turns=2, context=50)
    talkers.Slow.asked.clear()
    with pytest.raises(KeyboardInterrupt):
        turning.generate([prompt("p", "3", environment="Slow")], Sampling(16, 16))
    host.submit(lambda: None).result()  # after all that waits before it
    assert len(talkers.Slow.asked) < 16
    host.close()
