"""Adapters: registered, used, replaced and deleted over HTTP, on a parrot that has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
import uvloop
from starlette.routing import Route

from heavylift_runtime.engines.engine import Request
from heavylift_runtime.errors import LoadError, PromptError
from heavylift_runtime.server import app, body, patience
from heavylift_runtime.server.adapter_routes import adapter_routes
from heavylift_runtime.server.adapters import Adapters, found
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Rolling
from heavylift_runtime.server.schemas import Defaults, failure, read
from heavylift_runtime.server.texts import Texts
from heavylift_runtime.server.visit import Visit
from tests.in_process import until
from tests.stepping import Parrot, ThreadCopy

BY_PLATFORM = "x-amzn-sagemaker-adapter-identifier"


class Dialects(Parrot):
    """A parrot that ends what it says with the accent that its adapter's folder holds."""

    def __init__(self) -> None:
        super().__init__()
        self.accents: dict[str, str] = {}

    def load_adapter(self, name: str, source: str) -> None:
        accent = Path(source) / "accent"
        if not accent.exists():
            raise LoadError(f"{source} has no accent")
        if accent.read_text() == "huge":
            raise MemoryError
        self.accents[name] = accent.read_text()

    def unload_adapter(self, name: str) -> None:
        self.accents.pop(name, None)

    def add(self, key: int, request: Request) -> None:
        if request.adapter is not None:
            if request.adapter not in self.accents:
                raise PromptError(f"no adapter {request.adapter!r} is loaded")
            request = replace(request, prompt=f"{request.prompt} {self.accents[request.adapter]}")
        super().add(key, request)


class Desk:
    """Two copies, their line, their adapters; at a port."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.lost: list[str] = []
        self.adapters = Adapters(sources, lambda copy, sentence: self.lost.append(sentence))
        self.line = Rolling(10, stall=60, adapters=self.adapters)
        self.copies = [ThreadCopy(Dialects(), self.line, number) for number in range(2)]
        self.texts = Texts(self.line, read, failure, Defaults(), 10)
        self.client: httpx.AsyncClient

    def admit(self, visit: Visit) -> None:
        pass

    async def answer(self, visit: Visit, body: bytes) -> None:
        await self.texts.answer(visit, body)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        await self.texts.refuse(visit, refused)

    async def ask(self, adapter: object = None, **headers: str) -> httpx.Response:
        body = {"inputs": "good morning"} | ({} if adapter is None else {"adapters": adapter})
        return await self.client.post("/invocations", json=body, headers=headers)

    async def register(self, name: str, source: Path) -> httpx.Response:
        return await self.client.post("/adapters", json={"name": name, "src": str(source)})


Story = Callable[[Desk], Awaitable[None]]


def with_desk(story: Story, sources: dict[str, str] | None = None) -> None:
    async def run() -> None:
        desk = Desk(sources or {})
        for copy in desk.copies:
            await copy.start()
        ask = app.Ask(lambda scope: desk, body.Bodies(), lambda visit: None)
        routes = [Route("/invocations", ask, methods=["POST"]), Route("/v1/completions", ask, methods=["POST"])]
        application = app.build(
            lambda: (True, {}), list, lambda: b"", [*routes, *adapter_routes(lambda scope: desk.adapters)]
        )
        server = uvicorn.Server(
            uvicorn.Config(application, port=0, http=patience.ImpatientProtocol, lifespan="off", log_config=None)
        )
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, verify=False) as desk.client:
                await asyncio.wait_for(story(desk), 20)
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.gather(task, return_exceptions=True)
            for copy in desk.copies:
                await copy.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as serve.py does
        runner.run(run())


def accent(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "accent").write_text(text)
    return folder / name


def test_an_adapter_is_registered_on_every_copy_used_listed_and_deleted(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        source = accent(tmp_path, "bavarian", "servus")
        registered = await desk.register("bavarian", source)
        by_body = [(await desk.ask("bavarian")).json()["outputs"] for _ in range(4)]
        by_platform = await desk.ask(**{BY_PLATFORM: "bavarian"})
        plain = await desk.ask()
        listed = (await desk.client.get("/models/any/adapters")).json()
        one = (await desk.client.get("/adapters/bavarian")).json()
        deleted = await desk.client.delete("/adapters/bavarian")
        after = await desk.ask(**{BY_PLATFORM: "bavarian"})

        assert (registered.status_code, registered.json()) == (200, {"status": "Adapter bavarian registered"})
        assert by_body == [["good morning servus"]] * 4
        assert by_platform.json()["outputs"] == ["good morning servus"]
        assert plain.json()["outputs"] == ["good morning"]
        assert one == {"name": "bavarian", "src": str(source)} and listed == {"adapters": [one]}
        assert (deleted.status_code, after.status_code) == (200, 404)
        assert all(copy._engine.accents == {} for copy in desk.copies)  # type: ignore[attr-defined]

    with_desk(story)


def test_rows_of_one_request_may_have_an_adapter_each(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for name in ("one", "two"):
            await desk.register(name, accent(tmp_path, name, name))
        body = {"inputs": ["a", "b"], "adapters": ["two", "one"]}
        reply = await desk.client.post("/invocations", json=body)
        completion = await desk.client.post("/v1/completions", json={"model": "one", "prompt": "c", "temperature": 0})

        assert reply.json()["outputs"] == ["a two", "b one"]
        assert completion.json()["choices"][0]["text"] == "c one"

    with_desk(story)


def test_lmis_way_to_register_update_and_delete_is_taken_too(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        first, second = accent(tmp_path, "first", "ay"), accent(tmp_path, "second", "aye")
        url = "/models/any/adapters"
        registered = await desk.client.post(url, params={"name": "scots", "src": str(first)})
        before = (await desk.ask("scots")).json()["outputs"]
        updated = await desk.client.post(f"{url}/scots/update", params={"src": str(second)})
        after = (await desk.ask("scots")).json()["outputs"]

        assert (registered.status_code, updated.status_code) == (200, 200)
        assert (before, after) == (["good morning ay"], ["good morning aye"])
        assert (await desk.client.delete(f"{url}/scots")).status_code == 200

    with_desk(story)


def test_what_cannot_be_registered_has_its_status_and_no_copy_keeps_it(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        good = accent(tmp_path, "good", "x")
        (tmp_path / "none").mkdir()
        huge = accent(tmp_path, "huge", "huge")
        assert (await desk.register("good", good)).status_code == 200

        again = await desk.register("good", good)
        broken = await desk.register("broken", tmp_path / "none")
        memory = await desk.register("memory", huge)
        statuses = [again.status_code, broken.status_code, memory.status_code]
        wrongs: list[object] = [{"name": "a"}, {"name": "", "src": "/"}, {"name": 1, "src": "/"}, {"name": "a\n"}, []]
        for wrong in wrongs:
            statuses.append((await desk.client.post("/adapters", json=wrong)).status_code)
        for nowhere in ("relative", "/does/not/exist", "s3://bucket/x"):
            statuses.append((await desk.client.post("/adapters", json={"name": "a", "src": nowhere})).status_code)
        statuses.append((await desk.client.put("/adapters/other", json={})).status_code)
        statuses.append((await desk.client.delete("/adapters/other")).status_code)

        assert statuses == [409, 424, 507, 400, 400, 400, 400, 400, 404, 404, 404, 404, 404]
        assert "has no accent" in broken.json()["error"]
        assert (await desk.client.get("/adapters")).json() == {"adapters": [{"name": "good", "src": str(good)}]}
        assert all(set(copy._engine.accents) == {"good"} for copy in desk.copies)  # type: ignore[attr-defined]

    with_desk(story)


def test_an_update_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.register("scots", accent(tmp_path, "scots", "aye"))
        (tmp_path / "none").mkdir()

        updated = await desk.client.put("/adapters/scots", json={"src": str(tmp_path / "none")})

        assert updated.status_code == 424
        assert [(await desk.ask("scots")).json()["outputs"] for _ in range(3)] == [["good morning aye"]] * 3

    with_desk(story)


def test_an_unknown_adapter_is_404_and_never_answered_by_the_base_model() -> None:
    async def story(desk: Desk) -> None:
        replies = [await desk.ask("nobody"), await desk.ask(**{BY_PLATFORM: "nobody"})]

        assert [reply.status_code for reply in replies] == [404, 404]
        assert all("no adapter 'nobody'" in reply.json()["error"] for reply in replies)

    with_desk(story)


def test_a_copy_that_comes_back_has_its_adapters_again(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.register("scots", accent(tmp_path, "scots", "aye"))
        for copy in desk.copies:
            copy._engine.accents.clear()  # type: ignore[attr-defined]  # a new process knows nothing
        deaths = await asyncio.gather(*(desk.client.post("/invocations", json={"inputs": "die"}) for _ in range(4)))
        while not all(copy.deaths and copy.ready.is_set() for copy in desk.copies):
            await asyncio.sleep(0.01)

        assert {reply.status_code for reply in deaths} == {424}
        assert [(await desk.ask("scots")).json()["outputs"] for _ in range(4)] == [["good morning aye"]] * 4

    with_desk(story)


def test_an_adapter_whose_folder_is_gone_is_forgotten_and_said_so(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await until(lambda: bool(desk.lost))  # once, or twice where the second copy rises before the first has said it

        assert (await desk.ask("gone")).status_code == 404
        assert (await desk.ask("here")).json()["outputs"] == ["good morning x"]
        assert {sentence[:35] for sentence in desk.lost} == {"adapter 'gone' cannot be loaded and"}

    here = accent(tmp_path, "here", "x")
    with_desk(story, {"gone": str(tmp_path / "gone"), "here": str(here)})


def test_the_folders_in_a_models_adapters_folder_are_adapters_from_the_start(tmp_path: Path) -> None:
    accent(tmp_path / "adapters", "scots", "aye")
    (tmp_path / "adapters" / "README").touch()

    assert found(tmp_path) == {"scots": str(tmp_path / "adapters" / "scots")}
    assert found(tmp_path / "adapters") == {}


@pytest.mark.parametrize("garbage", [b"{", b"[" * 60_000, b"\xff", b'"x"', b" " * 70_000])
def test_garbage_for_the_adapter_api_is_4xx(garbage: bytes) -> None:
    async def story(desk: Desk) -> None:
        reply = await desk.client.post("/adapters", content=garbage)

        assert 400 <= reply.status_code < 500

    with_desk(story)
