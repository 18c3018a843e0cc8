"""Prompts among servers that answer, fail, freeze, die or serve other weights; these here speak vLLM's protocol."""

import asyncio
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from aiohttp import web

from fipo.batch import FinishReason, Prompt
from fipo.errors import RolloutError, StopRequested
from fipo.rollout.engine import Sampling
from fipo.rollout.served.dispatch import Dispatcher
from fipo.rollout.served.guard import Guard
from fipo.rollout.served.replicas import Replicas

TOKEN = "sesame"


class Server:
    """Answers each prompt with its tokens reversed; `behave(number)` may change what happens to a request.

    With `seconds` it does one prompt after the other, each for so long; `sampled` is what its `/metrics` counts.
    """

    def __init__(self, *, version="5", behave=None, healthy=True, seconds=0.0, sampled=None):
        self.version, self.behave, self.healthy, self.seconds, self.sampled = version, behave, healthy, seconds, sampled
        self.requests, self.turn = [], asyncio.Semaphore(1)

    async def generate(self, request):
        body = await request.json()
        self.requests.append((body, request.headers["Authorization"]))
        if self.behave and (unusual := await self.behave(len(self.requests), request)) is not None:
            return unusual
        async with self.turn:
            await asyncio.sleep(self.seconds)
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

    async def metrics(self, _):
        if self.sampled is None:
            return web.Response(status=404)
        text = '# HELP vllm:generation_tokens_total Number\nvllm:generation_tokens_total{engine="0"} '
        return web.Response(text=f"{text}{self.sampled()}\n")


@contextmanager
def running(*servers):
    """The servers' addresses, while a thread runs them."""
    loop = asyncio.new_event_loop()

    async def start():
        urls, runners = [], []
        for server in servers:
            app = web.Application()
            app.add_routes([web.post("/inference/v1/generate", server.generate), web.get("/health", server.health)])
            app.add_routes([web.get("/metrics", server.metrics)])
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


def generate(urls, sampling=SAMPLING, progress=None, timeout_seconds=120.0, health_seconds=2.0, in_flight=4):
    # A living server answers one of two looks on a busy machine too; a frozen one is found long before the limit.
    replicas = Replicas(urls, TOKEN, timeout_seconds, health_seconds)
    dispatcher = Dispatcher(replicas, stop_ids=[1], context=64, prompts_in_flight=in_flight)
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
        assert late.healthy and "1 of 2 are not well" in caplog.text
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


@pytest.mark.parametrize("tells", [False, True], ids=["answers now and then", "answers at the end, and counts tokens"])
def test_a_slow_server_has_all_the_time_that_it_makes_progress(tells):
    began, limit = time.monotonic(), 4.0

    async def all_at_the_end(number, request):
        await asyncio.sleep(max(0.0, began + 2 * limit - time.monotonic()))

    slow = (
        Server(behave=all_at_the_end, sampled=lambda: int(50 * (time.monotonic() - began)))
        if tells
        else Server(seconds=2 * limit / len(PROMPTS))
    )
    with running(slow) as urls:
        assert_complete(generate(urls, timeout_seconds=limit, health_seconds=0.5, in_flight=len(PROMPTS)))
    assert time.monotonic() - began > 2 * limit, "no request could have been answered so late under a limit on each"
    assert len(slow.requests) == len(PROMPTS), "nothing was asked twice"


def test_a_server_that_is_well_but_stands_still_loses_its_prompts_alone():
    async def stand_still(number, request):
        await asyncio.sleep(600)

    stuck, other = Server(behave=stand_still, sampled=lambda: 7), Server(seconds=0.1)
    with running(stuck, other) as urls:
        assert_complete(generate(urls, timeout_seconds=1.0, health_seconds=0.3))
    assert len(other.requests) == len(PROMPTS) and 0 < len(stuck.requests) <= 4


def test_servers_that_are_lost_one_after_the_other_are_not_the_prompts_fault():
    """More servers than attempts at a prompt: each dies with the first prompt that it gets."""
    dying = [Server() for _ in range(4)]

    def die(server):
        async def behave(number, request):
            server.healthy = False
            request.transport.close()

        return behave

    for server in dying:
        server.behave = die(server)
    last = Server(seconds=0.05)
    with running(*dying, last) as urls:
        assert_complete(generate(urls, health_seconds=1.0))


def test_one_look_at_which_a_busy_server_is_silent_is_forgiven():
    class Busy(Server):
        looks = 0

        async def health(self, request):
            Busy.looks += 1
            if Busy.looks == 2:
                await asyncio.sleep(1.0)
            return web.Response()

    async def late(number, request):
        await asyncio.sleep(3.0)

    with running(busy := Busy(behave=late)) as urls:
        replicas = Replicas(urls, TOKEN, 60.0, 0.5)
        dispatcher = Dispatcher(replicas, stop_ids=[1], context=64, prompts_in_flight=64)
        assert_complete(dispatcher.generate(PROMPTS, SAMPLING, 5))
    assert Busy.looks > 3 and len(busy.requests) == len(PROMPTS)


class Renewed(Server):
    """Gets new weights in the middle of each response."""

    def choice(self, body, index):
        answered = super().choice(body, index)
        answered["weight_versions"] = [
            {"version": self.version, "start": 0, "end": 1},
            {"version": "7", "start": 1, "end": len(answered["token_ids"])},
        ]
        return answered


def renewed(urls, newest):
    dispatcher = Dispatcher(Replicas(urls, TOKEN, 20.0), stop_ids=[1], context=64, prompts_in_flight=4)
    dispatcher.newest = newest
    return dispatcher.generate(PROMPTS, SAMPLING, 5)


def test_a_response_that_goes_on_says_which_weights_sampled_each_token():
    with running(Renewed()) as urls:
        groups = renewed(urls, newest=7)
    assert_complete(groups)
    assert all(rollout.weight_version == 5 for group in groups for rollout in group.rollouts)
    assert all(rollout.versions.tolist() == [5, 7, 7] for group in groups for rollout in group.rollouts)


@pytest.mark.parametrize(("version", "newest"), [("4", 7), ("incomplete", 7), ("5", 6), ("5", 5), ("5", 2)])
def test_weights_older_than_the_batch_or_never_sent_lose_a_server(version, newest):
    with running(Renewed(version=version)) as urls, pytest.raises(RolloutError, match="no rollout server is left"):
        renewed(urls, newest)


def test_a_stop_request_while_an_answer_is_handled_ends_it_as_itself(caplog):
    def stop(number, frame):
        raise StopRequested

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with running(Server(seconds=0.05), Server(seconds=0.05)) as urls, pytest.raises(StopRequested):
            generate(urls, progress=lambda done, total: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not caplog.records  # what the other server was asked for is given up without a word


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
