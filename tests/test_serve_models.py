"""A multi-model endpoint: real models come and go under one real server, by SageMaker's API."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.served import Served, alive, eventually, kill, serving, write_native, write_script

pytestmark = pytest.mark.slow

NAMED = """
import os

def handle(inputs):
    if inputs.is_empty():
        return None
    if inputs.get_as_json().get("do") == "die":
        os._exit(3)
    return {"name": NAME, "echo": inputs.get_as_json()}
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("many") / "models"
    folder.mkdir()
    with serving(folder, {"SAGEMAKER_MULTI_MODEL": "true"}) as served:
        yield served


def load(many: Served, name: str, folder: Path) -> httpx.Response:
    return httpx.post(f"{many.address}/models", json={"model_name": name, "url": str(folder)}, timeout=60)


def invoke(many: Served, name: str, body: object) -> httpx.Response:
    return httpx.post(f"{many.address}/models/{name}/invoke", json=body, timeout=60)


def unload(many: Served, name: str) -> httpx.Response:
    return httpx.delete(f"{many.address}/models/{name}", timeout=30)


def script(tmp_path: Path, name: str, properties: str = "engine=Python\n") -> Path:
    return write_script(tmp_path / name, NAMED.replace("NAME", repr(name)), properties)


def test_a_model_is_loaded_described_invoked_and_unloaded(many: Served, tmp_path: Path) -> None:
    folder = script(tmp_path, "one")

    assert load(many, "one", folder).status_code == 200
    assert httpx.get(f"{many.address}/models").json() == {"models": [{"modelName": "one", "modelUrl": str(folder)}]}
    assert httpx.get(f"{many.address}/models/one").json() == {"modelName": "one", "modelUrl": str(folder)}
    assert invoke(many, "one", {"a": 1}).json() == {"name": "one", "echo": {"a": 1}}
    ranks = many.ranks()
    assert unload(many, "one").status_code == 200

    assert not any(alive(pid) for pid in ranks)
    assert httpx.get(f"{many.address}/models").json() == {"models": []}


def test_several_models_answer_for_themselves_at_once(many: Served, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    with ThreadPoolExecutor(12) as clients:
        loaded = list(clients.map(lambda name: load(many, name, script(tmp_path, name)), names))
        replies = list(clients.map(lambda number: invoke(many, names[number % 3], {"number": number}), range(60)))

    assert [reply.status_code for reply in loaded] == [200] * 3
    for number, reply in enumerate(replies):
        assert reply.json() == {"name": names[number % 3], "echo": {"number": number}}
    for name in names:
        unload(many, name)


def test_a_model_that_is_loaded_already_is_409_and_an_unknown_one_404(many: Served, tmp_path: Path) -> None:
    folder = script(tmp_path, "twice")
    with ThreadPoolExecutor(2) as clients:
        codes = sorted(reply.status_code for reply in clients.map(lambda name: load(many, name, folder), ["twice"] * 2))

    assert codes == [200, 409]
    assert load(many, "twice", folder).status_code == 409
    assert unload(many, "twice").status_code == 200
    for reply in (
        unload(many, "twice"),
        invoke(many, "twice", {}),
        httpx.get(f"{many.address}/models/twice"),
        load(many, "nowhere", tmp_path / "nowhere"),
    ):
        assert (reply.status_code, reply.json()["code"]) == (404, 404)
        assert isinstance(reply.json()["error"], str)


@pytest.mark.parametrize("place", ["nowhere", "n" * 300])
def test_a_name_that_was_asked_for_with_a_wrong_url_can_be_loaded(many: Served, tmp_path: Path, place: str) -> None:
    refused = [load(many, "late", tmp_path / place) for _ in range(2)]

    assert [reply.status_code for reply in refused] == [404, 404]
    assert all(reply.json()["error"].startswith("'url' must be a folder of this container") for reply in refused)
    assert load(many, "late", script(tmp_path, "late")).status_code == 200
    assert unload(many, "late").status_code == 200


def test_a_model_that_memory_cannot_hold_is_507_and_leaves_nothing(many: Served, tmp_path: Path) -> None:
    ranks = many.ranks()
    declared = load(many, "big", script(tmp_path, "big", "engine=Python\nrequired_memory_mb=9000000\n"))
    greedy = write_script(tmp_path / "greedy", "raise MemoryError('no room')")
    raised = load(many, "greedy", greedy)

    assert (declared.status_code, raised.status_code) == (507, 507)
    assert "needs 9000000 MB" in declared.json()["error"]
    assert many.ranks() == ranks and httpx.get(f"{many.address}/models").json() == {"models": []}


def test_a_model_with_wrong_files_is_refused_with_its_sentence(many: Served, tmp_path: Path) -> None:
    options = load(many, "bad", script(tmp_path, "bad", "engine=Python\nbatch_sise=3\n"))
    broken = load(many, "broken", write_script(tmp_path / "broken", "import no_such_module"))
    weights = write_script(tmp_path / "looped", "", "engine=Python\n")
    (weights / "w.bin").symlink_to("w.bin")
    looped = load(many, "looped", weights)

    assert (options.status_code, broken.status_code, looped.status_code) == (400, 424, 400)
    assert "'looped' cannot be read" in looped.json()["error"]
    assert "did you mean 'batch_size'" in options.json()["error"]
    assert "no_such_module" in broken.json()["error"]
    assert many.ping() == 200


@pytest.mark.parametrize("body", [{}, {"model_name": "x"}, {"model_name": 3, "url": ""}, [], "x"])
def test_a_wrong_request_to_load_is_400(many: Served, body: object) -> None:
    assert httpx.post(f"{many.address}/models", json=body).status_code == 400


def test_a_name_that_no_path_could_reach_is_refused(many: Served, tmp_path: Path) -> None:
    reply = load(many, "a/b", script(tmp_path, "reached"))

    assert reply.status_code == 400
    assert "'model_name' must have no '/'" in reply.json()["error"]


def test_ping_is_200_without_models_and_a_model_that_dies_for_good_leaves_by_itself(
    many: Served, tmp_path: Path
) -> None:
    assert many.ping() == 200
    load(many, "mortal", script(tmp_path, "mortal", "engine=Python\nretry_threshold=0\n"))

    died = invoke(many, "mortal", {"do": "die"})

    assert died.status_code == 424
    eventually(lambda: invoke(many, "mortal", {}).status_code == 404)
    assert many.ping() == 200
    assert load(many, "mortal", tmp_path / "mortal").status_code == 200
    unload(many, "mortal")


def test_the_native_engine_serves_beside_a_script(many: Served, tiny_t5: Path, tmp_path: Path) -> None:
    folder = write_native(tiny_t5, tmp_path / "hash" / "model")

    assert load(many, "t5", folder).status_code == 200
    assert invoke(many, "t5", {"inputs": "write in words: 30"}).json()["outputs"] == ["thirty"]
    assert httpx.get(f"{many.address}/models/t5/adapters").json() == {"adapters": []}
    page = httpx.get(f"{many.address}/metrics").text
    assert 'heavylift_requests_total{code="200",model="t5"} 1.0' in page
    assert 'heavylift_running_requests{model="t5"} 0.0' in page
    assert unload(many, "t5").status_code == 200


def test_a_long_list_comes_in_pages(many: Served) -> None:
    assert httpx.get(f"{many.address}/models?next_page_token=x").status_code == 400
    assert httpx.get(f"{many.address}/models?next_page_token=100").json() == {"models": []}


def test_models_leave_with_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    with serving(folder, {"SAGEMAKER_MULTI_MODEL": "true"}) as served:
        load(served, "one", script(tmp_path, "one"))
        (rank,) = served.ranks()

        served.process.terminate()
        code, _ = served.end()

        assert code == 0
        assert not alive(rank)
    with serving(folder, {"SAGEMAKER_MULTI_MODEL": "true"}) as served:
        load(served, "one", tmp_path / "one")
        (rank,) = served.ranks()
        kill(served.process.pid)
        eventually(lambda: not alive(rank))


def test_unloading_a_model_answers_those_who_wait_for_it(many: Served, tiny_t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_t5, folder)
    (folder / "serving.properties").write_text("engine=native\noption.max_rolling_batch_size=1\n")
    load(many, "busy", folder)
    body = {"inputs": ["write in words: 298"] * 64, "parameters": {"max_new_tokens": 1000, "ignore_eos_token": True}}

    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(invoke, many, "busy", body) for _ in range(4)]
        eventually(lambda: httpx.get(f"{many.address}/ping").json()["models"]["busy"]["waiting"] == 4)
        assert unload(many, "busy").status_code == 200
        replies = [each.result() for each in asked]

    for reply in replies:
        assert (reply.status_code, reply.json()["error"]) == (503, "the model is being unloaded")


SLEEPS = """
import time

def handle(inputs):
    if not inputs.is_empty():
        time.sleep(600)
"""


def test_unloading_a_script_answers_those_who_wait_for_it(many: Served, tmp_path: Path) -> None:
    load(many, "asleep", write_script(tmp_path / "asleep", SLEEPS))

    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(invoke, many, "asleep", {}) for _ in range(2)]
        eventually(lambda: httpx.get(f"{many.address}/ping").json()["models"]["asleep"]["waiting"] == 1)
        unload(many, "asleep")
        codes = sorted(each.result().status_code for each in asked)

    assert codes == [503, 503]
