"""What the real server tells of itself: the log, /metrics, /ping's timeline, /v1/models, sessions, adapters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.served import Served, eventually, serving, write_native, write_script

pytestmark = pytest.mark.slow

SECRET = "write in words: 298"


@pytest.fixture(scope="module")
def native(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("observed") / "tiny"
    with serving(write_native(tiny_t5, folder, "option.enable_stateful_sessions=true\noption.s3url=.\n")) as served:
        yield served


def log(served: Served) -> list[dict[str, object]]:
    lines = served.errors.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_request_is_one_line_of_json_without_its_payload(native: Served) -> None:
    answer = native.ask({"inputs": SECRET}, **{"x-amzn-sagemaker-inference-id": "my-id"}).json()["outputs"][0]
    (line,) = eventually(lambda: [line for line in log(native) if line.get("id") == "my-id"])

    assert (line["event"], line["code"], line["rows"], line["model"]) == ("request", 200, 1, "tiny")
    assert line["prompt_tokens"] == 8 and line["finish_reason"] == "eos_token"
    assert 0 < line["first_token_ms"] <= line["total_ms"]  # type: ignore[operator]
    assert SECRET not in native.errors.read_text() and answer not in native.errors.read_text()


def test_lmis_own_paths_reach_the_model(native: Served) -> None:
    def ask(path: str) -> httpx.Response:
        return httpx.post(f"{native.address}{path}", json={"inputs": SECRET}, timeout=30)

    answers = [ask(path) for path in ("/predictions/tiny", "/predictions/model/1.0", "/models/tiny/invoke")]
    other = ask("/predictions/large")
    listed = httpx.get(f"{native.address}/models").json()
    loaded = httpx.post(f"{native.address}/models", json={"model_name": "large", "url": "/opt/ml/models/large/model"})

    assert [answer.json()["outputs"] for answer in answers] == [["two hundred and ninety-eight"]] * 3
    assert other.status_code == 404 and "this server serves 'tiny'" in other.json()["error"]
    assert [each["modelName"] for each in listed["models"]] == ["tiny"]
    assert loaded.status_code == 400 and "SAGEMAKER_MULTI_MODEL" in loaded.json()["error"]


def test_an_old_key_is_warned_of_at_start(native: Served) -> None:
    assert "option.s3url is an old name: write option.model_id" in native.errors.read_text()


def test_the_start_is_told_stage_by_stage_in_the_log_and_in_ping(native: Served) -> None:
    timeline = httpx.get(f"{native.address}/ping").json()["timeline"]

    assert timeline[0][1] == "copy 0: starting processes" and timeline[-1][1] == "copy 0: ready"
    assert [at for at, _ in timeline] == sorted(at for at, _ in timeline)
    stages = [str(line["stage"]) for line in log(native) if line["event"] == "stage"]
    assert stages[-1] == "ready"
    for each in ("checkpoint: ", "kernels: ", "weights: ", "model: ready"):
        assert any(stage.startswith(f"rank 0: {each}") for stage in stages), each


def test_metrics_count_requests_tokens_and_times(native: Served) -> None:
    native.ask({"inputs": [SECRET, SECRET]})
    native.ask({"inputs": 3})
    stream = native.ask({"inputs": SECRET, "stream": True})

    def counted() -> httpx.Response | None:  # once it has ended; its tokens may all have come before the first was sent
        native.ask({"inputs": SECRET, "stream": True})
        page = httpx.get(f"{native.address}/metrics")
        return None if 'heavylift_inter_token_seconds_count{model="tiny"} 0.0' in page.text else page

    page = eventually(counted)

    assert stream.headers["content-type"].startswith("application/jsonlines")
    assert page is not None and page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    series = dict(line.rsplit(" ", 1) for line in page.text.splitlines() if not line.startswith("#"))
    assert float(series['heavylift_requests_total{code="200",model="tiny"}']) >= 2
    assert float(series['heavylift_errors_total{code="400",model="tiny"}']) >= 1
    assert float(series['heavylift_generated_tokens_total{model="tiny"}']) >= 15
    assert float(series['heavylift_first_token_seconds_count{model="tiny"}']) >= 2
    assert float(series['heavylift_inter_token_seconds_count{model="tiny"}']) >= 1
    assert series['heavylift_waiting_requests{model="tiny"}'] == "0.0"
    assert series['heavylift_engine{copy="0",model="tiny",what="kv_cache_use"}'] == "0.0"  # nothing runs now


def test_the_model_is_listed_as_openai_lists_models(native: Served) -> None:
    (model,) = httpx.get(f"{native.address}/v1/models").json()["data"]

    assert httpx.get(f"{native.address}/v1/models/{model['id']}").json() == model
    assert httpx.get(f"{native.address}/v1/models/other").status_code == 404


def test_a_session_is_opened_used_and_closed(native: Served) -> None:
    opened = native.ask({"requestType": "NEW_SESSION"})
    identity, _, expires = opened.headers["x-amzn-sagemaker-new-session-id"].partition("; Expires=")
    session = {"x-amzn-sagemaker-session-id": identity}

    assert expires.endswith("Z")
    assert native.ask({"inputs": SECRET}, **session).status_code == 200
    closed = native.ask({"requestType": "CLOSE"}, **session)
    assert closed.headers["x-amzn-sagemaker-closed-session-id"] == identity
    late = native.ask({"inputs": SECRET}, **session)
    assert (late.status_code, "is not open" in late.json()["error"]) == (400, True)


def test_an_adapter_is_refused_and_never_answered_by_the_base_model(native: Served) -> None:
    asked = native.ask({"inputs": SECRET}, **{"x-amzn-sagemaker-adapter-identifier": "poet"})
    registered = httpx.post(f"{native.address}/adapters", json={"name": "poet", "src": "/opt/ml/poet"})

    assert (asked.status_code, registered.status_code) == (404, 400)
    assert asked.json()["error"] == "no adapter 'poet': engine native has no adapters"
    assert "engine native has no adapters" in registered.json()["error"]
    assert httpx.get(f"{native.address}/adapters").json() == {"adapters": []}
    assert httpx.delete(f"{native.address}/adapters/poet").status_code == 404


def test_the_custom_attribute_route_reaches_another_schema_by_sagemaker_s_one_door(native: Served) -> None:
    body = {"model": "tiny", "prompt": SECRET, "max_tokens": 16}
    direct = httpx.post(f"{native.address}/v1/completions", json=body, timeout=60).json()
    routed = native.ask(body, **{"x-amzn-sagemaker-custom-attributes": "route=/v1/completions"}).json()

    assert direct["choices"] == routed["choices"]
    assert direct["choices"][0]["text"] == "two hundred and ninety-eight"


def test_a_read_only_model_folder_without_network_is_enough(tiny_t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_t5, folder)
    (folder / "serving.properties").write_text("engine=native\n")
    before = sorted(path.name for path in folder.iterdir())
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)

    with serving(folder, {"HF_HUB_OFFLINE": "1"}) as served:
        assert served.ask({"inputs": SECRET}).status_code == 200
    assert sorted(path.name for path in folder.iterdir()) == before
    folder.chmod(0o755)


STREAMS = """
import time
from djl_python import Output

def handle(inputs):
    if inputs.is_empty():
        return None
    asked = inputs.get_as_json()
    def items():
        for number in range(asked["items"]):
            if number == asked.get("break_at"):
                raise ValueError("the generator broke")
            time.sleep(asked.get("pause", 0))
            yield {"number": number}
    return Output().add_property("content-type", "application/jsonlines").add_stream_content(items())
"""


def test_a_script_streams_is_cancelled_and_breaks_with_a_last_line(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", STREAMS)) as served:
        whole = served.ask({"items": 3})
        broken = served.ask({"items": 3, "break_at": 1})
        url = f"{served.address}/invocations"
        with httpx.stream("POST", url, json={"items": 10_000, "pause": 0.01}, timeout=10) as reply:
            next(reply.iter_lines())
        after = served.ask({"items": 1}, seconds=20)  # the copy is free again long before the 100 s

        assert [json.loads(line)["outputs"]["number"] for line in whole.text.splitlines()] == [0, 1, 2]
        assert "the generator broke" in broken.text.splitlines()[-1]
        assert after.status_code == 200


BATCHES = """
from djl_python import Output

def handle(inputs):
    if inputs.is_empty():
        return None
    batch = inputs.get_batches()
    output = Output()
    for index, each in enumerate(batch):
        output.add({"mine": each.get_as_json()["number"], "together": len(batch)}, batch_index=index)
    return output
"""


def test_a_script_gets_requests_together_and_each_client_its_own_answer(tmp_path: Path) -> None:
    properties = "engine=Python\nbatch_size=4\nmax_batch_delay=200\n"
    with serving(write_script(tmp_path / "model", BATCHES, properties)) as served, ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda number: served.ask({"number": number}).json(), range(24)))

    assert [reply["mine"] for reply in replies] == list(range(24))
    assert max(reply["together"] for reply in replies) == 4


def test_a_stream_under_way_when_sigterm_comes_is_finished(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", STREAMS)) as served, ThreadPoolExecutor(1) as clients:
        running = clients.submit(served.ask, {"items": 20, "pause": 0.1})
        eventually(lambda: httpx.get(f"{served.address}/ping").json()["running"])
        served.process.terminate()
        code, _ = served.end()

    assert code == 0
    assert len(running.result().text.splitlines()) == 20


def test_a_batch_transform_is_told_how_to_ask(tiny_t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "model")
    (folder / "serving.properties").write_text("engine=native\noption.max_rolling_batch_size=8\n")
    batch = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "100",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
    }

    with serving(folder, batch) as served:
        told = httpx.get(f"{served.address}/execution-parameters").json()
        long = served.ask({"inputs": SECRET, "parameters": {"max_new_tokens": 16}, "stream": False})
        large = httpx.post(f"{served.address}/invocations", content=b" " * (7 * 2**20), timeout=60)

    assert told == {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 100}
    assert long.json()["outputs"] == ["two hundred and ninety-eight"]
    assert large.status_code == 400  # read, and no JSON: 100 MB are a transform's limit, not 6
