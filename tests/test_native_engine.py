"""The native engine behind its seam: prompts in, replies out; its ranks as real processes; what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.errors import LoadError, PromptError
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.limits import LONGEST
from heavylift_runtime.native.sources import Folder
from heavylift_runtime.native.text import Markers
from heavylift_runtime.options import Options
from tests.native_cores import replies_of
from tests.rank_processes import started
from tests.t5_checkpoints import edit_tensors, oracle

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 60
PROMPTS = ["write in words: 1204", "write as an ISO date: 3 March 2011", "write as a Roman numeral: 1987",
           "expand: dr. bafen of jokel st."]  # fmt: skip


@pytest.fixture(scope="module")
def engine(tiny_t5: Path) -> Iterator[Engine]:
    threads = torch.get_num_threads()
    engine = load(Options(batch_size=3), tiny_t5, 0, 1, "")
    yield engine
    engine.close()
    torch.set_num_threads(threads)


def test_each_prompt_gets_its_reply_in_order_over_several_batches(engine: Engine) -> None:
    replies = replies_of(engine, [Request(prompt, Sampling(48)) for prompt in PROMPTS])

    assert [reply.text for reply in replies] == [
        "one thousand two hundred and four", "2011-03-03", "MCMLXXXVII", "doctor bafen of jokel street",
    ]  # fmt: skip
    assert {reply.finish_reason for reply in replies} == {"eos_token"}


def test_token_counts_include_the_end_of_sequence_token(engine: Engine, tiny_t5: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_t5 / "tokenizer.json"))

    reply = replies_of(engine, [Request(PROMPTS[0], Sampling(48))])[0]

    assert reply.prompt_tokens == len(tokenizer.encode(PROMPTS[0]).ids)
    assert reply.generated_tokens == len(tokenizer.encode(reply.text).ids)  # the tokenizer adds </s> here, too


def test_a_row_ends_at_its_own_limit(engine: Engine) -> None:
    full, short, single = replies_of(
        engine, [Request(PROMPTS[0], Sampling(48)), Request(PROMPTS[0], Sampling(3)), Request(PROMPTS[0], Sampling(1))]
    )

    assert (short.finish_reason, short.generated_tokens) == ("length", 3)
    assert (single.finish_reason, single.generated_tokens) == ("length", 1)
    assert full.text.startswith(short.text)


def test_a_prompt_that_cannot_be_served_is_refused_before_anything_is_computed_and_the_engine_goes_on(
    engine: Engine,
) -> None:
    refused = [
        (Request("a", Sampling(0)), "the request asks for 0 new tokens; ask for 1 to 2048"),
        (Request("a", Sampling(LONGEST + 1)), "the request asks for 2049 new tokens"),
        (Request("\ud83d", Sampling(8)), "the prompt holds half of a UTF-16 pair, which is no character"),
        (Request("a" * 5_000_000, Sampling(5)), "the prompt has 5000000 characters; at most 65536 are read"),
        (Request("1 " * LONGEST, Sampling(8)), "tokens; at most 2048 are read"),
        (Request((), Sampling(8)), "the prompt has no tokens"),
        (Request((5, -1), Sampling(8)), "the prompt has the token -1"),
        (Request("a", Sampling(8), adapter="french"), "the request names the adapter 'french'; this engine has none"),
    ]

    for request, sentence in refused:
        with pytest.raises(PromptError) as caught:
            engine.add(0, request)
        assert sentence in str(caught.value)

    assert not engine.busy
    assert replies_of(engine, [Request(PROMPTS[1], Sampling(48))])[0].text == "2011-03-03"


def test_odd_texts_are_answered(engine: Engine) -> None:
    replies = replies_of(
        engine, [Request(text, Sampling(5)) for text in ("", " ", "\0", "日本語 \U0001f600", "</s>", "a\nb\tc")]
    )

    assert all(1 <= reply.generated_tokens <= 5 for reply in replies)


def test_no_requests_are_no_replies(engine: Engine) -> None:
    assert replies_of(engine, []) == []


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "auto"])
def test_the_answers_are_the_same_in_every_dtype_that_cpus_have(tiny_t5: Path, dtype: str) -> None:
    engine = load(Options(batch_size=4, dtype=dtype), tiny_t5, 0, 1, "")

    replies = replies_of(engine, [Request(prompt, Sampling(48)) for prompt in PROMPTS])

    assert replies[1].text == "2011-03-03"


def test_what_cannot_be_computed_is_refused_before_any_rank_waits(tiny_t5: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="tensor_parallel_degree 3 does not divide 'num_heads' 4; use 1 or 2 or 4"):
        load(Options(tensor_parallel_degree=3), tiny_t5, 0, 3, "file:///nowhere/rendezvous")
    with pytest.raises(LoadError, match="pipeline_parallel_degree 7 is more than 'num_layers'"):
        load(Options(pipeline_parallel_degree=7), tiny_t5, 0, 7, "file:///nowhere/rendezvous")
    folder = shutil.copytree(tiny_t5, tmp_path / "t5")
    edit_tensors(folder, lambda tensors: {name: tensor.double() for name, tensor in tensors.items()})
    with pytest.raises(LoadError, match=r"'dtype' is 'auto' and the weights are F64: .* in 'fp32', 'bf16', 'fp16'"):
        load(Options(), folder, 0, 1, "")


def test_a_tokenizer_that_is_none_is_refused(tiny_t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "t5")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadError, match=r"tokenizer.json: is no tokenizer"):
        load(Options(), folder, 0, 1, "")
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(LoadError, match=r"has tokenizer.model but no tokenizer.json; save"):
        load(Options(), folder, 0, 1, "")


def test_markers_come_from_generation_config_then_config(tiny_t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "t5")
    written = folder / "generation_config.json"

    written.write_text(json.dumps({"eos_token_id": [1, 7], "decoder_start_token_id": None}))
    assert Markers.of(Checkpoint.open(Folder(folder))) == Markers(start=0, pad=0, ends=frozenset({1, 7}))
    written.unlink()
    assert Markers.of(Checkpoint.open(Folder(folder))) == Markers(start=0, pad=0, ends=frozenset({1}))
    written.write_text(json.dumps({"eos_token_id": None}))
    with pytest.raises(LoadError, match="'eos_token_id' is None"):
        Markers.of(Checkpoint.open(Folder(folder)))
    written.write_text(json.dumps({"decoder_start_token_id": 10**6}))
    with pytest.raises(LoadError, match="'decoder_start_token_id' is 1000000, and the model knows 512 tokens"):
        Markers.of(Checkpoint.open(Folder(folder)))


def test_what_generation_config_says_of_choosing_tokens_and_nobody_follows_is_named(
    tiny_t5: Path, tmp_path: Path
) -> None:
    folder, lines = shutil.copytree(tiny_t5, tmp_path / "t5"), list[str]()
    said = {"eos_token_id": 1, "repetition_penalty": 1.05, "num_beams": 4, "guidance_scale": 1.0, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(said))

    load(Options(), folder, 0, 1, "", lines.append).close()

    assert [line for line in lines if line.startswith("generation_config.json")] == [
        "generation_config.json: do_sample, num_beams not followed; requests and options say it where they can"
    ]


def ranks(folder: Path, world: int, tmp_path: Path) -> AbstractContextManager[list[subprocess.Popen[str]]]:
    """The engine's ranks as processes; none outlives the block."""
    command = [sys.executable, "-m", "tests.rank_process", str(folder)]
    commands = [[*command, str(rank), str(world), f"file://{tmp_path}/rendezvous"] for rank in range(world)]
    return started(commands, cwd=ROOT)


def ask(process: subprocess.Popen[str], value: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_as_processes_answer_as_transformers_does(tiny_t5: Path, tmp_path: Path, world: int) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_t5 / "tokenizer.json"))
    encoded = tokenizer.encode_batch(PROMPTS)
    with torch.inference_mode():
        expected = oracle(tiny_t5).generate(
            input_ids=torch.tensor([e.ids for e in encoded]),
            attention_mask=torch.tensor([e.attention_mask for e in encoded]),
            max_new_tokens=48,
            do_sample=False,
        )

    with ranks(tiny_t5, world, tmp_path) as processes:
        assert [line(process) for process in processes] == ["loaded"] * world
        ask(processes[0], [[prompt, 48] for prompt in PROMPTS])
        replies = json.loads(line(processes[0]))
        ask(processes[0], None)
        codes = [process.wait(DEADLINE) for process in processes]

    assert [reply["text"] for reply in replies] == tokenizer.decode_batch(expected.tolist())
    assert codes == [0] * world


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_when_a_rank_dies_the_other_stops_with_a_sentence(tiny_t5: Path, tmp_path: Path, dead: int) -> None:
    with ranks(tiny_t5, 2, tmp_path) as processes:
        assert [line(process) for process in processes] == ["loaded"] * 2

        processes[dead].send_signal(signal.SIGKILL)
        processes[dead].wait(DEADLINE)
        if dead == 1:
            ask(processes[0], [["write in words: 7", 8]])
        code = processes[1 - dead].wait(DEADLINE)
        assert processes[1 - dead].stderr is not None
        complaint = processes[1 - dead].stderr.read()

    assert code != 0
    assert "RuntimeFault: " in complaint
    assert ("another rank is gone" if dead == 0 else "the step failed") in complaint


@pytest.mark.slow
def test_a_rank_that_cannot_load_does_not_leave_the_other_waiting(tiny_t5: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_t5, tmp_path / "broken")
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[:-4])

    with ranks(broken, 2, tmp_path) as processes:
        codes = [process.wait(DEADLINE) for process in processes]
        complaints = [process.stderr.read() for process in processes if process.stderr is not None]

    assert all(codes)
    assert all("it is truncated" in complaint for complaint in complaints)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["words", "iso_date", "roman", "expand"])
def test_unseen_inputs_are_answered_exactly_in_at_least_19_of_20_cases(
    engine: Engine, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "training"))
    from tasks import examples

    pairs = list(islice(examples(task, seed=20, unseen=True), 60))

    replies = replies_of(engine, [Request(text, Sampling(48)) for text, _ in pairs])

    right = sum(reply.text == answer for reply, (_, answer) in zip(replies, pairs, strict=True))
    assert right >= 57
