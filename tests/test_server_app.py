"""The HTTP routes in this process, over a parrot that steps: streams, slow clients, time-outs, failures behind."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop
from starlette.routing import Route
from starlette.types import ASGIApp

from heavylift_runtime import steps
from heavylift_runtime.server import app, body, patience, rolling, texts
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Rolling
from heavylift_runtime.server.schemas import Defaults, failure, read
from heavylift_runtime.server.texts import Texts
from heavylift_runtime.server.visit import Visit
from tests.stepping import Parrot, ThreadCopy


class Serving:
    """A server on a free port, its line, its parrot, and the visits that have ended."""

    def __init__(self, parrot: Parrot, limit: int, budget: float, refused: Refused | None) -> None:
        self.parrot = parrot
        self.line = Rolling(limit, stall=60)
        self.copy = ThreadCopy(parrot, self.line)
        self.visits: list[Visit] = []
        self.port = 0
        self._texts = Texts(self.line, read, failure, Defaults(), budget)
        self._refused = refused

    def admit(self, visit: Visit) -> None:
        if self._refused is not None:
            raise self._refused

    async def answer(self, visit: Visit, body: bytes) -> None:
        await self._texts.answer(visit, body)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        await self._texts.refuse(visit, refused)

    @property
    def app(self) -> ASGIApp:
        health: dict[str, object] = {"status": "ready" if self._refused is None else self._refused.sentence}
        ask = app.Ask(lambda scope: self, body.Bodies(), self.visits.append)
        routes = [Route(path, ask, methods=["POST"]) for path in app.PATHS]
        return app.build(lambda: (self._refused is None, health), lambda: ["model"], lambda: b"", routes)

    async def ask(self, document: object, **arguments: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=10, verify=False) as client:
            return await client.post(f"http://127.0.0.1:{self.port}/invocations", json=document, **arguments)


Story = Callable[[Serving], Awaitable[None]]


def with_server(
    story: Story,
    *,
    parrot: Parrot | None = None,
    limit: int = 2,
    budget: float = 10,
    refused: Refused | None = None,
    seconds: float = 20,
) -> None:
    """Run a story beside the server on a free port of this process."""

    async def run() -> None:
        serving = Serving(parrot or Parrot(), limit, budget, refused)
        await serving.copy.start()
        config = uvicorn.Config(
            serving.app, port=0, http=patience.ImpatientProtocol, lifespan="off", log_config=None, ws="none"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        serving.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            await asyncio.wait_for(story(serving), seconds)
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.gather(task, return_exceptions=True)
            await serving.copy.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as serve.py does
        runner.run(run())


async def until(true: Callable[[], object]) -> None:
    """Until something is true; the story's own limit ends it otherwise."""
    while not true():
        await asyncio.sleep(0.005)


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


def test_a_client_that_goes_away_is_cancelled_in_the_engine() -> None:
    steps = threading.Semaphore(3)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        document = json.dumps({"inputs": "word " * 100, "stream": True}).encode()
        head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(document)}\r\n\r\n"
        writer.write(head.encode() + document)
        await reader.readuntil(b"word")

        writer.close()
        await until(lambda: serving.visits)
        steps.release(2)
        await until(lambda: serving.parrot.cancelled)

        assert not serving.parrot.busy and serving.line.running == 0
        assert (await asyncio.gather(serving.ask({"inputs": "next"}), asyncio.to_thread(steps.release, 9)))[
            0
        ].status_code == 200

    with_server(story, parrot=Parrot(gate=steps.acquire))


def test_a_client_that_does_not_read_is_ended_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "MOST_UNREAD", 50)
    monkeypatch.setattr(steps, "BREATH", 0)  # every token comes by itself
    monkeypatch.setattr(patience, "STALLED_SECONDS", 0.3)

    async def story(serving: Serving) -> None:
        document = {"inputs": f"{'long' * 3000} " * 500, "parameters": {"max_new_tokens": 1000}, "stream": True}
        content = json.dumps(document).encode()
        head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", serving.port))
            await asyncio.to_thread(slow.sendall, head.encode() + content)

            await until(lambda: serving.line.running)
            other = await serving.ask({"inputs": "quick"})
            await until(lambda: serving.visits and serving.visits[-1].stream)

        assert other.json()["outputs"] == ["quick"]
        assert serving.visits[-1].error == "the client left 50 tokens of its stream unread"
        await until(lambda: serving.parrot.cancelled)

    with_server(story)


@pytest.mark.parametrize("half", [b"", b"POST /invocations HTTP/1.1\r\nhost:"])
def test_a_client_that_never_ends_its_headers_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, half: bytes) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.1)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(half)

        assert await reader.read() == b""
        writer.close()

    with_server(story)


def test_a_client_that_never_ends_the_headers_of_its_second_request_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.1)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.write(b"GET /pi")

        assert await reader.read() == b""
        writer.close()

    with_server(story)


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.1)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b'POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{"in')

        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()

    with_server(story)


def test_bodies_that_come_in_together_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MAX_ALL", 1000)

    async def story(serving: Serving) -> None:
        half = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 1200\r\n\r\n" + b" " * 600
        clients = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(2)]
        for _, writer in clients:
            writer.write(half)
        reads = [asyncio.create_task(reader.readline()) for reader, _ in clients]
        done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)

        assert done.pop().result().startswith(b"HTTP/1.1 503 ")
        for _, writer in clients:
            writer.close()
        await asyncio.wait(reads)

    with_server(story)


def test_an_asynchronous_endpoints_body_may_be_larger_than_all_others_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "MAX_ALL", 16)
    parts = [{"type": "http.request", "body": b"1234567890", "more_body": more} for more in (True, True, False)]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    assert asyncio.run(body.Bodies(30).read({"content-length": "30"}, receive)) == b"1234567890" * 3
    parts += [{"type": "http.request", "body": b"1234567890", "more_body": True}] * 2
    with pytest.raises(Refused, match="must say its Content-Length") as caught:
        asyncio.run(body.Bodies(30).read({}, receive))
    assert caught.value.code == 411


def test_a_model_that_takes_too_long_is_424_and_a_request_that_never_left_the_queue_503() -> None:
    hold = threading.Event()

    async def story(serving: Serving) -> None:
        slow = await serving.ask({"inputs": "a"})
        streams = [asyncio.create_task(serving.ask({"inputs": "a", "stream": True})) for _ in range(2)]
        await until(lambda: serving.line.running == 2)  # a stream has eight minutes
        queued = await serving.ask({"inputs": "c"})

        assert (slow.status_code, queued.status_code) == (424, 503)
        assert slow.json()["error"] == "the model did not answer within 0.3 s (option.predict_timeout)"
        assert queued.json()["error"] == "the request waited 0.3 s in the queue (option.predict_timeout)"
        hold.set()
        assert [reply.status_code for reply in await asyncio.gather(*streams)] == [200, 200]
        assert serving.line.waiting == serving.line.running == 0

    with_server(story, parrot=Parrot(capacity=1, gate=hold.wait), budget=0.3)


def test_a_full_queue_is_503_with_when_to_come_back_and_empties_when_clients_leave() -> None:
    hold = threading.Event()

    async def story(serving: Serving) -> None:
        clients = [asyncio.create_task(serving.ask({"inputs": "a"}))]
        await until(lambda: serving.line.running)
        clients += [asyncio.create_task(serving.ask({"inputs": "a"})) for _ in range(3)]
        await until(lambda: serving.line.waiting == 2)

        refused = await serving.ask({"inputs": "b"})

        async with httpx.AsyncClient() as pinging:
            assert (await pinging.get(f"http://127.0.0.1:{serving.port}/ping")).status_code == 200
        assert (refused.status_code, refused.json()["code"]) == (503, 503)
        assert refused.json()["error"] == "the queue is full: 2 requests wait (job_queue_size=2)"
        assert int(refused.headers["retry-after"]) >= 1
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await until(lambda: serving.line.waiting == 0)
        hold.set()

    with_server(story, parrot=Parrot(capacity=1, gate=hold.wait))


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


def test_a_stream_s_time_is_eight_minutes_and_a_reply_s_sixty_seconds() -> None:
    assert texts.STREAM_SECONDS == 8 * 60
