"""Ranks are killed at random under load: every request is accounted for, once, and with its own answer.

Real processes, real HTTP, the native engine: each prompt has an answer of its own, learnt before the killing, so that
another's tokens would be seen.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.served import Served, eventually, kill, serving, write_native

pytestmark = pytest.mark.slow

CLIENTS, EACH, KILLS = 8, 15, 5  # a client asks until it has so many answers, and so many ranks were killed
PROMPTS = [f"write in words: {number}" for number in range(100, 900, 17)]


@pytest.mark.parametrize("ranks", [1, 2], ids=["copies of one rank", "copies of two ranks"])
def test_no_request_is_lost_doubled_or_answered_with_another_s_tokens(
    tiny_t5: Path, tmp_path: Path, ranks: int
) -> None:
    properties = (
        f"option.tensor_parallel_degree={ranks}\nmaxWorkers=2\nminWorkers=2\n"
        "option.max_rolling_batch_size=8\nretry_threshold=100\noption.predict_timeout=600\n"  # no request is ever late
    )
    with serving(write_native(tiny_t5, tmp_path / "model", properties)) as served:
        answers = served.ask({"inputs": PROMPTS}).json()["outputs"]
        known = dict(zip(PROMPTS, answers, strict=True))
        assert len(set(answers)) > len(answers) * 0.9

        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            killer = threads.submit(murder, served)
            clients = [threads.submit(client, served, known, number, killer) for number in range(CLIENTS)]
            fates = [each.result() for each in clients]
        outcomes = Counter(outcome for each in fates for outcome in each)
        killer.result()
        served.wait()

        assert set(outcomes) <= {"answered", "424", "503", "broken stream"}, outcomes
        for fate in map(Counter, fates):
            assert fate["424"] + fate["broken stream"] <= KILLS  # a death spoils a client's one request
            assert fate["503"] <= KILLS  # no copy is left: only a death begins that, and the client waits for its end
        assert served.ask({"inputs": PROMPTS}).json()["outputs"] == answers

        httpx.get(f"{served.address}/metrics")  # all that has been answered is told before this is
        seen = Counter(json.loads(line)["id"] for line in requests_logged(served))
        for number, each in enumerate(fates):
            for turn in range(len(each)):
                assert seen[f"client-{number}-{turn}"] == 1


def murder(served: Served) -> None:
    """Kills random ranks, one after the other."""
    dice, killed = random.Random(7), 0
    pause = threading.Event()
    while killed < KILLS:
        pause.wait(dice.uniform(0.2, 1.5))
        if ranks := served.ranks():
            with contextlib.suppress(ProcessLookupError):  # it was dying already
                kill(dice.choice(ranks))
                killed += 1


def client(served: Served, known: dict[str, str], number: int, killer: Future[None]) -> list[str]:
    """What became of each of one client's requests; asserts that no answer is another's."""
    dice, outcomes = random.Random(number), []
    with httpx.Client(base_url=served.address, timeout=600) as http:
        for turn in count():
            if outcomes.count("answered") >= EACH and killer.done():
                break
            prompts = dice.sample(PROMPTS, dice.choice([1, 1, 4, 16]))
            headers = {"x-request-id": f"client-{number}-{turn}"}
            if dice.random() < 0.4:
                outcomes.append(streamed(http, known, prompts[0], headers))
            else:
                outcomes.append(whole(http, known, prompts, headers))
            if outcomes[-1] == "503":
                eventually(lambda: served.ping() == 200)
    return outcomes


def whole(http: httpx.Client, known: dict[str, str], prompts: Sequence[str], headers: dict[str, str]) -> str:
    reply = http.post("/invocations", json={"inputs": prompts}, headers=headers)
    if reply.status_code != 200:
        assert reply.json()["error"] and reply.json()["code"] == reply.status_code
        return str(reply.status_code)
    assert reply.json()["outputs"] == [known[prompt] for prompt in prompts]
    return "answered"


def streamed(http: httpx.Client, known: dict[str, str], prompt: str, headers: dict[str, str]) -> str:
    with http.stream("POST", "/invocations", json={"inputs": prompt, "stream": True}, headers=headers) as reply:
        lines = [json.loads(line) for line in reply.iter_lines()]
    if reply.status_code != 200:
        return str(reply.status_code)
    text = "".join(line["token"]["text"] for line in lines if "token" in line)
    if "generated_text" in lines[-1]:
        assert lines[-1]["generated_text"] == text == known[prompt]
        return "answered"
    assert known[prompt].startswith(text) and "stopped" in json.dumps(lines[-1])
    return "broken stream"


def requests_logged(served: Served) -> list[str]:
    return [line for line in served.errors.read_text().splitlines() if '"event": "request"' in line]
