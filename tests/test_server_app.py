"""What the HTTP routes reply, over a parrot that steps. Not slow clients: test_server_patience.py."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Sequence

import httpx
import pytest
from starlette.types import Message

from heavylift_runtime.engines.engine import Request
from heavylift_runtime.server import app, body
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Job, Rolling
from heavylift_runtime.server.texts import STOPPING
from heavylift_runtime.server.visit import Visit
from tests.in_process import Serving, until, with_server
from tests.stepping import Parrot


def test_details_come_only_when_asked_for() -> None:
    async def story(serving: Serving) -> None:
        plain = (await serving.ask({"inputs": ["a b", "b", "c d e"]})).json()
        detailed = (await serving.ask({"inputs": "a b", "parameters": {"details": True}})).json()

        assert plain == {
            "outputs": ["a b", "b", "c d e"],
            "usage": {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12},
        }
        assert detailed["details"] == [{"finish_reason": "eos_token", "prompt_tokens": 2, "generated_tokens": 2}]

    with_server(story)


def test_a_stream_brings_each_token_as_it_comes() -> None:
    steps = threading.Semaphore(0)

    async def story(serving: Serving) -> None:
        async with httpx.AsyncClient(timeout=10, verify=False) as client:
            url = f"http://127.0.0.1:{serving.port}/invocations"
            steps.release()
            async with client.stream("POST", url, json={"inputs": "one two three", "stream": True}) as reply:
                assert reply.status_code == 200
                lines = reply.aiter_lines()
                first = json.loads(await anext(lines))
                steps.release(2)  # no second token before the first one was read
                rest = [json.loads(line) async for line in lines]

        assert [line["token"]["text"] for line in [first, *rest]] == ["one", " two", " three"]
        (visit,) = serving.visits
        assert (visit.code, visit.stream, visit.generated_tokens, visit.finish) == (200, True, 3, "eos_token")

    with_server(story, parrot=Parrot(gate=steps.acquire))


@pytest.mark.slow
def test_an_answered_request_is_gone_without_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, join = weakref.WeakSet[Job](), Rolling.join

    def remembered(self: Rolling, requests: Sequence[Request], *, stream: bool) -> Job:
        job = join(self, requests, stream=stream)
        jobs.add(job)
        return job

    async def story(serving: Serving) -> None:
        for stream in (False, True):
            assert (await serving.ask({"inputs": "one two three", "stream": stream})).status_code == 200
        await until(lambda: len(serving.visits) == 2 and not jobs)

    monkeypatch.setattr(Rolling, "join", remembered)
    gc.disable()
    try:
        with_server(story)
    finally:
        gc.enable()


def test_rows_share_the_steps_and_a_row_of_one_is_not_held_up_by_a_request_of_many() -> None:
    async def story(serving: Serving) -> None:
        many = asyncio.create_task(serving.ask({"inputs": ["long " * 40 + "end"] * 64}))
        await until(lambda: serving.line.running)
        one = await serving.ask({"inputs": "short"})

        assert one.json()["outputs"] == ["short"]
        assert not many.done()
        assert len((await many).json()["outputs"]) == 64
        assert serving.parrot.most_running == 4

    with_server(story, parrot=Parrot(capacity=4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "code", "sentence"),
    [
        ("poison", 400, "poison is not food"),
        ("bug", 424, "the engine cannot take this request: ZeroDivisionError: a bug in the tokenizer"),
        ("a memory", 507, "memory ran out"),
        ("die", 424, "the model stopped while it computed this request: the thread of the copy ended"),
    ],
)
def test_what_fails_before_the_first_token_has_its_status_also_of_a_stream(
    prompt: str, code: int, sentence: str
) -> None:
    async def story(serving: Serving) -> None:
        whole = await serving.ask({"inputs": ["good", prompt]})

        assert (whole.status_code, whole.json()) == (code, {"error": sentence, "code": code})
        if prompt != "die":
            streamed = await serving.ask({"inputs": prompt.removeprefix("a "), "stream": True})
            assert (streamed.status_code, streamed.json()["error"]) == (code, sentence)

    with_server(story)


def test_a_stream_that_breaks_says_so_in_its_last_line() -> None:
    async def story(serving: Serving) -> None:
        reply = await serving.ask({"inputs": "one memory", "stream": True})

        first, last = [json.loads(line) for line in reply.text.splitlines()]
        assert first["token"]["text"] == "one"
        assert "memory ran out" in json.dumps(last)
        assert serving.visits[0].error == "memory ran out"

    with_server(story)


def test_while_it_loads_ping_and_invocations_are_503() -> None:
    async def story(serving: Serving) -> None:
        reply = await serving.ask({"inputs": "a"})
        async with httpx.AsyncClient(verify=False) as client:
            ping = await client.get(f"http://127.0.0.1:{serving.port}/ping")

        assert (ping.status_code, ping.json()) == (503, {"status": "the model is not ready: loading: weights"})
        assert reply.json() == {"error": "the model is not ready: loading: weights", "code": 503}

    with_server(story, refused=Refused(503, "the model is not ready: loading: weights"))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"accept": "application/json;verbose=1, text/csv"}, 200),
        ({"accept": "text/csv"}, 406),
    ],
)
def test_the_content_types_are_json_s(headers: dict[str, str], code: int) -> None:
    async def story(serving: Serving) -> None:
        assert (await serving.ask({"inputs": "a"}, headers=headers)).status_code == code

    with_server(story)


def test_the_request_s_id_and_sagemaker_s_custom_attributes_come_back() -> None:
    async def story(serving: Serving) -> None:
        given = {"x-amzn-sagemaker-inference-id": "abc", "x-amzn-sagemaker-custom-attributes": "trace=7"}
        good = await serving.ask({"inputs": "a"}, headers=given)
        bad = await serving.ask({"inputs": 7}, headers=given)
        none = await serving.ask({"inputs": "a"})

        for reply in (good, bad):
            assert reply.headers["x-request-id"] == "abc"
            assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7"
        assert len(none.headers["x-request-id"]) == 32
        assert [visit.identity for visit in serving.visits[:2]] == ["abc", "abc"]

    with_server(story)


def test_who_asks_for_them_gets_the_server_s_times_whole_and_at_a_stream_s_head() -> None:
    async def story(serving: Serving) -> None:
        given = {"x-amzn-sagemaker-custom-attributes": "trace=7;heavylift-times"}
        for asked in ({"inputs": "a"}, {"inputs": "a", "stream": True}):
            reply = await serving.ask(asked, headers=given)
            told = reply.headers["x-amzn-sagemaker-custom-attributes"]
            assert told.startswith("trace=7;heavylift-times;")
            times = dict(each.split("=") for each in told.split(";")[2:])
            assert list(times) == ["heavylift-queue-us", "heavylift-first-us", "heavylift-total-us"]
            queue, first, total = map(int, times.values())
            assert 0 <= queue <= first <= total < 60_000_000

    with_server(story)


def test_a_reply_that_the_end_of_the_drain_cuts_off_is_a_fault_in_the_log() -> None:
    visits: list[Visit] = []

    class Slow:
        def admit(self, visit: Visit) -> None:
            """It is ready."""

        async def answer(self, visit: Visit, body: bytes) -> None:
            await visit.open("application/json")
            begun.set()
            await asyncio.Event().wait()

        async def refuse(self, visit: Visit, refused: Refused) -> None:
            raise AssertionError("it was answered")

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        """Nobody reads it."""

    async def run() -> None:
        scope = {"type": "http", "path": "/invocations", "headers": []}
        task = asyncio.create_task(app.Ask(lambda scope: Slow(), body.Bodies(), visits.append)(scope, receive, send))
        await begun.wait()
        task.cancel()
        await task

    begun = asyncio.Event()
    asyncio.run(run())

    assert [(visit.code, visit.error) for visit in visits] == [(200, STOPPING.sentence)]
