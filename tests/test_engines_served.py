"""Every engine under the server, as real processes: the same greedy tokens, readiness, memory, cancelling, death.

Engines that pin packages of their own run in the environments that `make vllm` and `make deepspeed` install; without
one its cases are skipped, and say so. What an engine promises behind the seam is in test_engine_conformance.py.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers

from heavylift_runtime.engines.interpreter import VARIABLE, own_environment
from heavylift_runtime.engines.registry import ENGINES
from tests.conftest import ROOT
from tests.gate import Gate
from tests.neuron_sdk import with_recorded_sdk
from tests.served import Served, alive, eventually, kill, serving

pytestmark = pytest.mark.slow

LOADS_S = 300.0  # vLLM imports for a minute where the machine is busy
CLOSE = 1e-4
"""Two logits nearer than this are a tie, which rounding decides."""
PROPERTIES = {
    "native": "engine=native\n",
    "fastertransformer": "engine=FasterTransformer\n",
    "accelerate": "engine=Python\noption.entryPoint=djl_python.huggingface\n",
    "accelerate@2": "engine=Python\noption.entryPoint=djl_python.huggingface\noption.tensor_parallel_degree=2\n",
    "deepspeed": "engine=DeepSpeed\noption.tensor_parallel_degree=2\n",
    "vllm": "engine=Python\noption.entryPoint=djl_python.vllm\noption.enforce_eager=true\n"
    "option.kv_cache_memory_bytes=268435456\n",
    "neuronx": "engine=Python\noption.entryPoint=djl_python.transformers_neuronx\noption.n_positions=256\n",
}
MODELS = {
    "native": ("llama", "t5"),
    "fastertransformer": ("t5",),
    "accelerate": ("llama", "t5"),
    "accelerate@2": ("llama",),
    "deepspeed": ("llama", "t5"),  # over two ranks
    "vllm": ("llama",),
    "neuronx": ("llama",),  # over the recorded interface of its SDK
}
TASKS = ("write as a Roman numeral: {}", "write in words: {}")
PROMPTS = [TASKS[number % 2].format(number) for number in range(41, 1999, 193)]
ODD = ["", "zzz", "write in words: ", "12 + 12", "Ünïcödé → ∞"][1:]  # what the tiny models were never shown
HOME = {"HF_HUB_OFFLINE": "1", VARIABLE: str(ROOT)}


@dataclass(frozen=True)
class Started:
    """A server, the gate of its ranks, and what /ping said before it was opened and from then until it was ready."""

    engine: str
    model: str
    served: Served
    gate: Gate
    early: list[int]
    pings: list[int] = field(default_factory=list)


def start(stack: ExitStack, folder: Path, engine: str, model: str, more: str = "") -> Started:
    row = ENGINES[engine.partition("@")[0]]
    if row.missing() is not None and own_environment(row, ROOT) is None:
        pytest.skip(f"{row.missing()}")
    shutil.copytree(ROOT / "models" / f"tiny-{model}", folder)
    (folder / "serving.properties").write_text(
        f"{PROPERTIES[engine]}option.dtype=fp32\noption.max_rolling_batch_size=4\n{more}"
    )
    sdk = with_recorded_sdk({"NEURON_PLATFORM_TARGET_OVERRIDE": "inf2"}) if engine == "neuronx" else {}
    gate = Gate(folder.parent / "gate", closed=True)
    served = stack.enter_context(serving(folder, gate.environ(HOME | sdk), wait=False))
    started = Started(engine, model, served, gate, [served.ping() for _ in range(3)])
    gate.open()

    def ready() -> bool:
        started.pings.append(started.served.ping())
        assert started.served.process.poll() is None, started.served.errors.read_text()[-3000:]
        return started.pings[-1] == 200

    eventually(ready, LOADS_S)
    return started


@pytest.fixture(scope="module", params=[f"{engine}-{model}" for engine in MODELS for model in MODELS[engine]])
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    engine, _, model = request.param.partition("-")
    with ExitStack() as stack:
        yield start(
            stack,
            tmp_path_factory.mktemp("served") / "model",
            engine,
            model,
            "retry_threshold=50\noption.predict_timeout=60\n",
        )


@cache
def theirs(model: str) -> tuple[Any, Any]:
    """transformers' own model, in its plainest attention, and its tokenizer."""
    owner = transformers.AutoModelForSeq2SeqLM if model == "t5" else transformers.AutoModelForCausalLM
    folder = ROOT / "models" / f"tiny-{model}"
    loaded = owner.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return loaded, transformers.AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def scores(model: str, prompt: str, answer: list[int]) -> torch.Tensor:
    """transformers' logits of what comes after a prompt and the beginning of its answer."""
    loaded, tokenizer = theirs(model)
    tokens = tokenizer(prompt)["input_ids"]
    if model == "t5":
        begun = torch.tensor([[loaded.config.decoder_start_token_id, *answer]])
        given = {"input_ids": torch.tensor([tokens]), "decoder_input_ids": begun}
    else:
        given = {"input_ids": torch.tensor([[*tokens, *answer]])}
    logits: torch.Tensor = loaded(**given).logits[0, -1]
    return logits


@cache
def greedy(model: str, prompt: str, count: int) -> list[int]:
    """transformers' own greedy answer, up to its end or so many tokens."""
    answer: list[int] = []
    while len(answer) < count and (not answer or answer[-1] != 1):
        answer.append(int(scores(model, prompt, answer).argmax()))
    return answer


def ids(served: Served, prompt: str, count: int) -> list[int]:
    parameters = {"max_new_tokens": count, "details": True, "logprobs": 1}
    reply = served.ask({"inputs": prompt, "parameters": parameters})
    assert reply.status_code == 200, reply.text
    (details,) = reply.json()["details"]
    return [token["id"] for token in details["tokens"]]


def test_greedy_tokens_are_the_same_on_every_engine(
    started: Started, record_testsuite_property: Callable[[str, object], None]
) -> None:
    ties = 0

    for prompt in (*PROMPTS, *ODD):
        expected = greedy(started.model, prompt, 24)
        found = ids(started.served, prompt, 24)

        if found != expected:
            place = next(at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1])
            first, second = scores(started.model, prompt, expected[:place]).topk(2).values.tolist()
            assert first - second < CLOSE, (prompt, found, expected, place)
            ties += 1

    record_testsuite_property(f"ties {started.engine} {started.model}", f"{ties} of {len(PROMPTS) + len(ODD)}")
    assert ties <= 1, "near-ties are rare on a trained model"


def answered(served: Served, prompt: str, count: int) -> list[int] | None:
    """The tokens; None while there is no model."""
    with suppress(httpx.TransportError, AssertionError):
        return ids(served, prompt, count)
    return None


def test_a_stream_joined_is_the_whole_answer(started: Started) -> None:
    for prompt in PROMPTS[:3]:
        body = {"inputs": prompt, "parameters": {"max_new_tokens": 24}}
        whole = started.served.ask(body).json()["outputs"]
        url = f"{started.served.address}/invocations"

        with httpx.stream("POST", url, json=body | {"stream": True}, timeout=60) as reply:
            lines = [json.loads(line) for line in reply.iter_lines() if line]

        assert ["".join(line["token"]["text"] for line in lines if "token" in line)] == whole
        assert lines[-1]["generated_text"] == whole[0]


def test_the_rows_of_a_batch_come_back_in_their_order(started: Started) -> None:
    alone = [started.served.ask({"inputs": prompt}).json()["outputs"][0] for prompt in PROMPTS]

    together = started.served.ask({"inputs": PROMPTS[::-1]}).json()["outputs"]

    assert together == alone[::-1]
    assert len(set(alone)) > 5  # else their order would prove nothing


def test_ping_is_not_200_before_the_model_is_loaded(started: Started) -> None:
    assert set(started.early) == {503}
    assert set(started.pings[:-1]) <= {503} and started.pings[-1] == 200


def test_wrong_parameters_are_refused_and_the_engine_stays(started: Started) -> None:
    ranks = started.served.ranks()
    for parameters in ({"temperature": -1}, {"max_new_tokens": 10**6}, {"no_such": 1}):
        reply = started.served.ask({"inputs": "write in words: 7", "parameters": parameters})

        assert reply.status_code == 400 and reply.json()["error"]
    if (
        started.model != "t5" or started.engine == "fastertransformer"
    ):  # T5 counts no positions: transformers answers any length
        reply = started.served.ask({"inputs": "A " * 5000})
        assert (reply.status_code, "shorten it" in reply.text or "maximum" in reply.text) == (400, True), reply.text
    assert started.served.ranks() == ranks


def test_a_client_that_hangs_up_frees_its_place(started: Started) -> None:
    body = {"inputs": "write in words: 777", "stream": True, "parameters": {"max_new_tokens": 100, "ignore_eos": True}}

    with ExitStack() as streams:
        for _ in range(4):  # as many as run at once
            stream = streams.enter_context(
                httpx.stream("POST", f"{started.served.address}/invocations", json=body, timeout=60)
            )
            next(stream.iter_lines())

    eventually(lambda: running(started.served) == 0)
    assert ids(started.served, "write in words: 30", 12) == greedy(started.model, "write in words: 30", 12)


def running(served: Served) -> float:
    found = re.search(r"^heavylift_running_requests\S* (\S+)$", httpx.get(f"{served.address}/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def test_memory_that_runs_out_is_an_answer_and_the_engine_serves_again(started: Started) -> None:
    served = started.served
    known = greedy(started.model, "write in words: 30", 12)
    long = {"inputs": ["write in words: 30 " * 8] * 16, "parameters": {"max_new_tokens": 32, "ignore_eos": True}}
    limited = served.ranks()
    for pid in limited:  # no page more than it has; the kernel's own refusal, as in a container's limit
        resource.prlimit(pid, resource.RLIMIT_AS, (address_space(pid), resource.RLIM_INFINITY))

    reply = served.ask(long, 120)

    assert reply.status_code in (200, 424, 503, 507), reply.text  # 200: it had kept enough of what it was given before
    assert reply.status_code == 200 or reply.json()["error"]
    assert "predict_timeout" not in reply.text, "it hung"
    for pid in limited:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    eventually(lambda: answered(served, "write in words: 30", 12) == known, LOADS_S)


def address_space(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmSize:\s+(\d+)", status, re.M)[1]) * 1024  # type: ignore[index]  # the kernel writes it


def test_a_killed_rank_is_replaced_and_meanwhile_ping_is_not_200(started: Started) -> None:
    served, before = started.served, started.served.ranks()
    known = greedy(started.model, "write in words: 30", 12)

    with started.gate.shut():
        kill(before[-1])

        eventually(lambda: served.ping() == 503)
        eventually(lambda: not any(alive(pid) for pid in before))
        assert served.ping() == 503
    eventually(lambda: served.ping() == 200, LOADS_S)

    assert len(served.ranks()) == len(before)
    assert ids(served, "write in words: 30", 12) == known


@pytest.mark.parametrize("engine", MODELS)
def test_an_engine_that_dies_for_good_is_never_healthy_again(engine: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        served = start(stack, tmp_path / "model", engine, MODELS[engine][0], "retry_threshold=0\n").served
        heard: list[int] = []

        def ended() -> bool:
            try:
                heard.append(served.ping())
            except httpx.TransportError:  # the server has gone, perhaps before it was asked once
                return True
            return served.process.poll() is not None

        kill(served.ranks()[0])
        eventually(ended)
        code, last = served.end()

        assert heard == sorted(heard) and set(heard) <= {200, 503}  # 200 only before the death was seen
        assert code == 1 and "died 1 times within ten minutes" in last
