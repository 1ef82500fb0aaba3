"""A model.py of formatters alone, as LMI documents them, of both kinds: an engine answers between them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.served import Served, serving, write_script
from tests.test_script_llm_samples import LLAMA, PROMPTS, greedy
from tests.test_script_samples import ask

pytestmark = pytest.mark.slow

# for each token, with the request and all tokens so far
TOKENS = """
import json
from djl_python import Input
from djl_python.encode_decode import decode
from djl_python.input_parser import input_formatter
from djl_python.output_formatter import RequestOutput, output_formatter
from djl_python.request_io import RequestInput, TextInput

@input_formatter
def custom_input_formatter(input_item: Input, tokenizer=None, **kwargs) -> RequestInput:
    input_map = decode(input_item, input_item.get_property("Content-Type"))
    request = TextInput()
    request.input_text = input_map["prompt"]
    request.input_ids = tokenizer.encode(request.input_text)
    request.parameters = {"max_new_tokens": input_map.get("length", 8), "stream": input_map.get("stream", False)}
    return request

@output_formatter
def custom_output_formatter(request_output: RequestOutput) -> str:
    best = request_output.sequences[request_output.best_sequence_index]
    next_token, first_token, last_token = best.get_next_token()
    result = {"token_id": next_token.id, "text": next_token.text, "sure": round(next_token.log_prob, 3) <= 0}
    if first_token:
        result["prompt_tokens"] = request_output.input.prompt_tokens_length()
    if last_token:
        result["finish_reason"] = best.finish_reason
    return json.dumps(result) + "\\n"
"""

# one JSON object in, one out
OBJECTS = """
from djl_python.input_parser import input_formatter
from djl_python.output_formatter import output_formatter

@input_formatter
def my_custom_input_formatter(decoded_payload: dict, tokenizer=None, **kwargs) -> dict:
    return {"inputs": decoded_payload.pop("question"), "parameters": {"max_new_tokens": 8, **decoded_payload}}

@output_formatter
def my_custom_output_formatter(response_data: dict) -> dict:
    if "token" in response_data:
        return {"piece": response_data["token"]["text"]}
    return {"answer": response_data["generated_text"], "details": response_data.get("details")}
"""


def served(folder: Path, script: str, more: str = "") -> Any:
    return serving(write_script(folder, script, f"engine=Python\noption.model_id={LLAMA}\noption.dtype=fp32\n{more}"))


def test_formatters_of_inputs_and_of_tokens(tmp_path: Path) -> None:
    with served(tmp_path / "model", TOKENS, "batch_size=4\n") as server, ThreadPoolExecutor(2) as clients:
        found = list(clients.map(lambda prompt: rows(server, {"prompt": prompt}), PROMPTS))
        short = rows(server, {"prompt": PROMPTS[0], "length": 2})
        wrong = server.ask({"inputs": PROMPTS[0]})

    for prompt, told in zip(PROMPTS, found, strict=True):
        tokens, text = greedy(prompt)
        assert [each["token_id"] for each in told] == tokens
        assert "".join(each["text"] for each in told).strip() == text
        assert all(each["sure"] for each in told)
        assert told[0]["prompt_tokens"] > 1 and "finish_reason" in told[-1]
    assert [each.get("finish_reason") for each in short] == [None, "length"]
    assert (wrong.status_code, "'prompt'" in wrong.json()["error"]) == (400, True)


def test_formatters_of_tokens_in_a_stream_and_of_objects(tmp_path: Path) -> None:
    with served(tmp_path / "tokens", TOKENS) as server:
        stream = rows(server, {"prompt": PROMPTS[0], "stream": True})
    with served(tmp_path / "objects", OBJECTS) as server:
        whole = ask(server, {"question": PROMPTS[0], "details": True})
        pieces = rows(server, {"question": PROMPTS[0], "stream": True})
        wrong = server.ask({"question": PROMPTS[0], "max_new_tokens": "many"})

    tokens, text = greedy(PROMPTS[0])
    assert [each["token_id"] for each in stream] == tokens
    assert whole["answer"].strip() == text
    assert whole["details"] == {"finish_reason": whole["details"]["finish_reason"], "generated_tokens": len(tokens)}
    assert "".join(each["piece"] for each in pieces).strip() == text and len(pieces) > 1
    assert (wrong.status_code, "'max_new_tokens' must be" in wrong.json()["error"]) == (400, True)


def rows(server: Served, body: object) -> list[dict[str, Any]]:
    reply = server.ask(body)
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines()]
