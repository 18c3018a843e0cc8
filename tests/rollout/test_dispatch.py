"""Prompts among servers that answer, fail, freeze, die or serve other weights; these here speak vLLM's protocol."""

import asyncio
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from aiohttp import web

from fipo.batch import FinishReason, Prompt
from fipo.errors import RolloutError
from fipo.rollout.engine import Sampling
from fipo.rollout.served.dispatch import Dispatcher
from fipo.rollout.served.guard import Guard
from fipo.rollout.served.replicas import Replicas

TOKEN = "sesame"


class Server:
    """Answers each prompt with its tokens reversed; `behave(number)` may change what happens to a request."""

    def __init__(self, *, version="5", behave=None, healthy=True):
        self.version, self.behave, self.healthy = version, behave, healthy
        self.requests = []

    async def generate(self, request):
        body = await request.json()
        self.requests.append((body, request.headers["Authorization"]))
        if self.behave and (unusual := await self.behave(len(self.requests), request)) is not None:
            return unusual
        await asyncio.sleep(0.01)
        return web.json_response(
            {"choices": [self.choice(body, index) for index in range(body["sampling_params"]["n"])]}
        )

    def choice(self, body, index):
        tokens = [*body["token_ids"][::-1], index]
        return {
            "index": index,
            "finish_reason": "length",
            "token_ids": tokens,
            "weight_versions": [{"version": self.version, "start": 0, "end": len(tokens)}],
            "logprobs": {"content": [{"token_id": token, "logprob": -token / 8, "rank": 1} for token in tokens]},
        }

    async def health(self, _):
        if not self.healthy:
            await asyncio.sleep(60)
        return web.Response()


@contextmanager
def running(*servers):
    """The servers' addresses, while a thread runs them."""
    loop = asyncio.new_event_loop()

    async def start():
        urls, runners = [], []
        for server in servers:
            app = web.Application()
            app.add_routes([web.post("/inference/v1/generate", server.generate), web.get("/health", server.health)])
            runners.append(web.AppRunner(app, shutdown_timeout=0.1))
            await runners[-1].setup()
            site = web.TCPSite(runners[-1], "127.0.0.1", 0)
            await site.start()
            urls.append(f"http://127.0.0.1:{runners[-1].addresses[0][1]}")
        return urls, runners

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    urls, runners = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield urls
    finally:
        for runner in runners:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


SAMPLING = Sampling(group_size=2, max_response_tokens=8, seed=3)
PROMPTS = [Prompt(id=f"{index:04x}", text="", token_ids=(index + 2, 1), answer="") for index in range(24)]


def generate(urls, sampling=SAMPLING, progress=None):
    # A living server answers in three seconds on a busy machine too; a frozen one is found long before a request is.
    replicas = Replicas(urls, TOKEN, timeout_seconds=120.0, health_seconds=3.0)
    dispatcher = Dispatcher(replicas, stop_ids=[1], context=64, prompts_in_flight=4)
    return dispatcher.generate(PROMPTS, sampling, 5, progress)


def assert_complete(groups):
    assert [group.prompt for group in groups] == PROMPTS
    for prompt, group in zip(PROMPTS, groups):
        assert [rollout.token_ids.tolist() for rollout in group.rollouts] == [
            [*prompt.token_ids[::-1], n] for n in (0, 1)
        ]


def test_prompts_are_shared_and_their_responses_come_in_order():
    seen, servers = [], (Server(), Server())
    with running(*servers) as urls:
        groups = generate(urls, progress=lambda done, total: seen.append((done, total)))
    assert_complete(groups)
    rollout = groups[3].rollouts[1]
    np.testing.assert_array_equal(rollout.log_probs, np.array([-1, -5, -1], dtype=np.float32) / 8)
    assert rollout.finish_reason is FinishReason.LENGTH and rollout.weight_version == 5
    assert min(len(server.requests) for server in servers) > 6
    assert seen == [(2 * done, 48) for done in range(1, 25)]


def test_a_batch_that_one_server_could_take_is_shared():
    with running(*(servers := [Server(), Server(), Server()])) as urls:
        dispatcher = Dispatcher(Replicas(urls, TOKEN, 20.0), stop_ids=[1], context=64, prompts_in_flight=64)
        assert_complete(dispatcher.generate(PROMPTS, SAMPLING, 5))
    assert [len(server.requests) for server in servers] == [8, 8, 8]


def test_servers_are_waited_for_at_the_start(caplog):
    late = Server(healthy=False)
    threading.Timer(1.0, setattr, [late, "healthy", True]).start()
    with running(late, Server()) as urls:
        replicas = Replicas(urls, TOKEN, timeout_seconds=120.0, health_seconds=1.0)
        replicas.wait_for_all(60.0)
        assert late.healthy and "waiting for 1 of 2" in caplog.text
        late.healthy = False
        replicas.wait_for_all(0.1)
    assert f"left out: {urls[0]}" in caplog.text


def test_requests_say_how_to_sample():
    with running(server := Server()) as urls:
        generate(urls)
        generate(urls)
    bodies = {tuple(body["token_ids"]): body["sampling_params"] for body, _ in server.requests}
    assert {authorization for _, authorization in server.requests} == {"Bearer sesame"}
    asked = bodies[(2, 1)]
    assert asked | {"seed": 0} == {
        "n": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "stop_token_ids": [1], "seed": 0, "logprobs": 0
    }  # fmt: skip
    assert len({params["seed"] for params in bodies.values()}) == 24
    assert len({(tuple(body["token_ids"]), body["sampling_params"]["seed"]) for body, _ in server.requests}) == 24


def test_the_greedy_response_is_asked_for_once():
    with running(server := Server()) as urls:
        groups = generate(urls, Sampling(group_size=3, max_response_tokens=8, temperature=0.0))
    assert {body["sampling_params"]["n"] for body, _ in server.requests} == {1}
    assert [rollout.token_ids.tolist() for rollout in groups[0].rollouts] == [[1, 2, 0]] * 3


def test_a_failed_request_is_sent_again():
    async def now_and_then(number, _):
        return web.Response(status=500, text="out of luck") if number % 5 == 1 else None

    with running(Server(behave=now_and_then)) as urls:
        assert_complete(generate(urls))


def test_a_prompt_that_always_fails_is_named():
    async def never(number, request):
        return web.Response(status=500, text="cannot") if (await request.json())["token_ids"][0] == 9 else None

    with (
        running(Server(behave=never)) as urls,
        pytest.raises(RolloutError, match=r"prompt 0007: failed 3 times.*cannot"),
    ):
        generate(urls)


@pytest.mark.parametrize("fault", ["dies", "freezes", "stale"])
def test_the_prompts_of_a_lost_server_go_to_the_others(fault):
    async def die(number, request):
        server.healthy = False
        request.transport.close()

    async def freeze(number, request):
        server.healthy = False
        await asyncio.sleep(600)

    server = {
        "dies": Server(behave=die),
        "freezes": Server(behave=freeze),
        "stale": Server(version="4"),
    }[fault]
    started = time.perf_counter()
    with running(server, other := Server()) as urls:
        assert_complete(generate(urls))
    assert time.perf_counter() - started < 120.0, "as long as a request may take"
    assert server.requests and len(other.requests) == 24


def test_it_ends_when_no_server_is_left():
    left = r"no rollout server is left.*version 4, not 5.*version default, not 5"
    with running(Server(version="4"), Server(version="default")) as urls, pytest.raises(RolloutError, match=left):
        generate(urls)
    with pytest.raises(RolloutError, match="no rollout server is left"):
        generate(urls)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/update_weights", [], 401),
        ("/update_weights", [(b"authorization", b"Bearer wrong")], 401),
        ("/update_weights", [(b"authorization", b"Bearer sesame")], 200),
        ("/health", [], 200),
    ],
)
def test_the_guard_admits_the_token_only(monkeypatch, path, headers, status):
    monkeypatch.setenv("FIPO_ROLLOUT_TOKEN", TOKEN)
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {}

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app)({"type": "http", "path": path, "headers": headers}, receive, send))
    assert sent[0]["status"] == status
