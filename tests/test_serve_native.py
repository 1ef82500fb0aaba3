"""tiny-t5 behind the whole server, at one and two ranks, and what happens when a rank of two is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gate import Gate
from tests.served import Served, alive, eventually, kill, serving, write_native

pytestmark = pytest.mark.slow

PROMPTS = {"write in words: 298": "two hundred and ninety-eight", "write in words: 30": "thirty"}


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def native(request: pytest.FixtureRequest, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    properties = f"option.tensor_parallel_degree={request.param}\nbatch_size=4\nmax_batch_delay=20\n"
    with serving(write_native(tiny_t5, tmp_path_factory.mktemp("native") / "model", properties)) as served:
        assert len(served.ranks()) == request.param
        yield served


def test_rows_come_back_in_order_with_their_token_counts(native: Served) -> None:
    reply = native.ask({"inputs": list(PROMPTS), "parameters": {"details": True, "max_new_tokens": 40}}).json()

    assert reply["outputs"] == list(PROMPTS.values())
    assert [row["finish_reason"] for row in reply["details"]] == ["eos_token"] * 2
    assert reply["usage"]["prompt_tokens"] == sum(row["prompt_tokens"] for row in reply["details"])
    assert reply["usage"]["completion_tokens"] == sum(row["generated_tokens"] for row in reply["details"])
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]


def test_the_ranks_load_torch_and_the_server_never_does(native: Served) -> None:
    native.ask({"inputs": list(PROMPTS)})

    def loads_torch(pid: int) -> bool:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()

    assert all(loads_torch(rank) for rank in native.ranks()) and not loads_torch(native.process.pid)


def test_an_answer_that_is_cut_off_says_so(native: Served) -> None:
    reply = native.ask({"inputs": "write in words: 298", "parameters": {"details": True, "max_new_tokens": 2}}).json()

    assert reply["details"][0]["finish_reason"] == "length"
    assert reply["details"][0]["generated_tokens"] == 2


def test_a_request_with_more_rows_than_a_batch_is_answered_whole(native: Served) -> None:
    assert native.ask({"inputs": list(PROMPTS) * 5}).json()["outputs"] == list(PROMPTS.values()) * 5


def test_concurrent_requests_of_different_lengths_share_batches_and_get_their_own_answers(native: Served) -> None:
    wanted = [(prompt, most) for prompt in PROMPTS for most in (2, 64)] * 4

    def ask(want: tuple[str, int]) -> str:
        return str(native.ask({"inputs": want[0], "parameters": {"max_new_tokens": want[1]}}).json()["outputs"][0])

    with ThreadPoolExecutor(len(wanted)) as clients:
        outputs = list(clients.map(ask, wanted))

    for (prompt, most), output in zip(wanted, outputs, strict=True):
        assert output == PROMPTS[prompt] if most == 64 else PROMPTS[prompt].startswith(output)


def test_a_wrong_request_is_refused_and_the_model_stays(native: Served) -> None:
    for body, code in (({"inputs": ""}, 400), ({"inputs": "a", "parameters": {"temprature": 0.5}}, 400)):
        assert native.ask(body).status_code == code
    assert native.ask({"inputs": "a"}, **{"content-type": "text/csv"}).status_code == 415
    assert native.ask({"inputs": "a"}, accept="image/png").status_code == 406
    assert native.ping() == 200


def test_a_prompt_that_is_too_long_is_refused_and_its_neighbours_are_served(native: Served) -> None:
    with ThreadPoolExecutor(4) as clients:
        long = clients.submit(native.ask, {"inputs": "word " * 5000})
        others = [clients.submit(native.ask, {"inputs": prompt}) for prompt in PROMPTS]

        assert long.result().status_code == 400
        assert "tokens" in long.result().json()["error"]
        assert [each.result().json()["outputs"] for each in others] == [[answer] for answer in PROMPTS.values()]


def test_a_killed_or_a_stuck_rank_takes_its_copy_with_it_and_all_come_back(tiny_t5: Path, tmp_path: Path) -> None:
    folder = write_native(tiny_t5, tmp_path / "model", "option.tensor_parallel_degree=2\noption.predict_timeout=20\n")
    gate = Gate(tmp_path / "gate")

    with serving(folder, gate.environ({})) as served:
        before = served.ranks()
        with gate.shut():
            kill(before[1])
            eventually(lambda: served.ping() == 503)
        served.wait()

        assert not any(alive(pid) for pid in before)
        reply = served.ask({"inputs": "write in words: 30"})
        assert reply.status_code == 200 and reply.json()["outputs"] == ["thirty"], reply.text

        ranks = served.ranks()
        with gate.shut():
            os.kill(ranks[1], signal.SIGSTOP)  # rank 0 waits for it in a collective
            stuck = served.ask({"inputs": "write in words: 30"})
            assert (stuck.status_code, "option.predict_timeout" in stuck.json()["error"]) == (424, True)
            eventually(lambda: served.ping() == 503)  # nobody waits any more
        served.wait()
        assert not any(alive(pid) for pid in ranks)

        ranks = served.ranks()
        kill(served.process.pid)
        eventually(lambda: not any(alive(pid) for pid in ranks), 10)


def test_missing_weights_end_the_server_with_a_sentence(tiny_t5: Path, tmp_path: Path) -> None:
    folder = write_native(tiny_t5, tmp_path / "model", "option.tensor_parallel_degree=2\n")
    (folder / "model.safetensors").unlink()

    with serving(folder, wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert "safetensors" in last and "Traceback" not in last


def test_truncated_weights_end_the_server_with_a_sentence(tiny_t5: Path, tmp_path: Path) -> None:
    folder = write_native(tiny_t5, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000_000])

    with serving(folder, wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert "model.safetensors" in last and "bytes" in last


def test_the_users_own_script_gives_the_engines_answers(tiny_t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_t5.parent / "tiny-t5-script", folder)
    (folder / "serving.properties").write_text("engine=Python\noption.entryPoint=model.py\n")
    body = {"inputs": list(PROMPTS), "parameters": {"max_new_tokens": 40, "details": True}}

    with serving(folder, {"OPTION_MODEL_ID": str(tiny_t5)}) as served:
        reply = served.ask(body).json()

        assert reply["outputs"] == list(PROMPTS.values())
        assert reply["usage"] == {"prompt_tokens": 15, "completion_tokens": 9, "total_tokens": 24}
        assert reply["details"][1] == {"finish_reason": "eos_token", "prompt_tokens": 7, "generated_tokens": 3}
        assert reply["tasks"] == ["write in words"] * 2
        assert served.ask({"inputs": []}).status_code == 400
        assert served.ask({"inputs": "a", "parameters": {"max_new_tokens": "many"}}).status_code == 400
