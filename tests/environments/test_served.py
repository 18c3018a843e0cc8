"""Turns over rollout servers that speak vLLM's protocol: what each turn sends, and what becomes of a lost server."""

from dataclasses import replace

from fipo.batch import Prompt
from fipo.environments.host import Host
from fipo.rewards.sandbox.client import Limits
from fipo.rollout.engine import RolloutEngine, Sampling
from fipo.rollout.observations import Observations
from fipo.rollout.served.dispatch import Dispatcher
from fipo.rollout.served.replicas import Replicas
from fipo.rollout.turns import TurnsEngine
from tests.rollout.test_dispatch import TOKEN, Server, running

A, END, AGAIN = 2, 1, 4
COUNTER = "tests.environments.talkers:Counter"
PROMPTS = [Prompt(f"{n:02x}", "", (A,) * (n + 1), str(n % 3), environment=COUNTER) for n in range(9)]


class Speaker(Server):
    """Ends each turn at once, the second response to a prompt after two tokens."""

    def choice(self, body, index):
        tokens = [A, A, END] if index else [A, END]
        return {
            "index": index,
            "finish_reason": "stop",
            "token_ids": tokens,
            "weight_versions": [{"version": self.version, "start": 0, "end": len(tokens)}],
            "logprobs": {"content": [{"token_id": token, "logprob": -token / 8, "rank": 1} for token in tokens]},
        }


class Servers(RolloutEngine):
    """The dispatcher alone: the weights are there."""

    def __init__(self, urls):
        servers = Replicas(urls, TOKEN, timeout_seconds=120.0, health_seconds=3.0)
        self._dispatcher = Dispatcher(servers, stop_ids=[END], context=64, prompts_in_flight=4)

    def generate(self, prompts, sampling, progress=None, on_group=None):
        return self._dispatcher.generate(prompts, sampling, 5, progress, on_group)

    def load_weights(self, source, version): ...

    def close(self): ...


def play(urls, words):
    tokenizer, stops = words
    observations = Observations(tokenizer, stops, chat=False, max_tokens=8)
    engine = TurnsEngine(Servers(urls), Host(2, Limits()), observations, tokenizer, max_turns=8, context=64)
    return engine.generate(PROMPTS, Sampling(2, 30, seed=3))


def assert_complete(groups):
    assert [group.prompt for group in groups] == PROMPTS
    for prompt, group in zip(PROMPTS, groups):
        again = [AGAIN, A, END] * int(prompt.answer)
        assert [rollout.token_ids.tolist() for rollout in group.rollouts] == [[A, END, *again], [A, A, END, *again]]
        assert all(rollout.turns == 1 + int(prompt.answer) for rollout in group.rollouts)


def test_each_turn_is_a_request_with_all_tokens_before_it(words):
    with running(server := Speaker()) as urls:
        assert_complete(play(urls, words))
    bodies = [body for body, _ in server.requests]
    asked = {tuple(body["token_ids"]): body["sampling_params"] for body in bodies}
    first, second, third = (A, A, A), (A, A, A, A, A, END, AGAIN), (A, A, A, A, A, END, AGAIN, A, END, AGAIN)
    assert [asked[ids]["n"] for ids in (first, second, third)] == [2, 1, 1]
    assert [asked[ids]["max_tokens"] for ids in (first, second, third)] == [30, 30 - 4, 30 - 7]
    # Nine prompts; two responses of each of six go on, and of three of them twice.
    assert len(bodies) == 9 + 12 + 6 == len({body["sampling_params"]["seed"] for body in bodies})


def test_a_server_that_is_lost_between_turns_loses_nothing(words):
    async def die(number, request):
        if number > 5:
            lost.healthy = False
            request.transport.close()

    lost = Speaker(behave=die)
    with running(lost, Speaker()) as urls:
        assert_complete(play(urls, words))
    assert len(lost.requests) > 5


def test_turns_are_no_part_of_prompts_without_an_environment(words):
    tokenizer, stops = words
    plain = [replace(prompt, environment="") for prompt in PROMPTS]
    observations = Observations(tokenizer, stops, chat=False, max_tokens=8)
    with running(server := Speaker()) as urls:
        through = TurnsEngine(Servers(urls), Host(1, Limits()), observations, tokenizer, max_turns=8, context=64)
        groups = through.generate(plain, Sampling(2, 30, seed=3))
        direct = Servers(urls).generate(plain, Sampling(2, 30, seed=3))
    requests = [body for body, _ in server.requests]
    assert sorted(map(str, requests[:9])) == sorted(map(str, requests[9:])) and len(requests) == 18
    for one, other in zip(groups, direct):
        assert [r.token_ids.tolist() for r in one.rollouts] == [r.token_ids.tolist() for r in other.rollouts]
