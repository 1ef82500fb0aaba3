"""Text Generation Inference's schema: one prompt, its details, its events, its errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.server.schemas import Defaults, Exchange, Misread, failure, read
from tests.schema_pieces import TEXTS, finished, pieces, streamed

TEXT = "".join(TEXTS)


def exchange(body: object, path: str = "/generate", **defaults: Any) -> Exchange:
    return read(path, {}, json.dumps(body).encode(), Defaults(**defaults))


def test_the_reply_is_an_object_and_at_the_root_a_list() -> None:
    one = exchange({"inputs": "a"})
    listed = exchange({"inputs": "a"}, "/")
    sagemaker = exchange({"inputs": "a"}, "/invocations", tgi_compat=True)

    assert one.requests == (Request("a", Sampling(64)),)
    assert json.loads(one.reply([finished()])) == {"generated_text": TEXT}
    assert json.loads(listed.reply([finished()])) == [{"generated_text": TEXT}]
    assert json.loads(sagemaker.reply([finished()])) == [{"generated_text": TEXT}]


def test_details_tell_every_token_and_mark_the_last_as_special() -> None:
    found = exchange({"inputs": "a", "parameters": {"details": True, "seed": 4, "top_n_tokens": 1}})

    details = json.loads(found.reply([finished(["x"])]))["details"]

    assert details == {
        "finish_reason": "eos_token",
        "generated_tokens": 2,
        "seed": 4,
        "input_length": 5,
        "prefill": [],
        "tokens": [
            {"id": 1, "text": "x", "logprob": -0.5, "special": False},
            {"id": 2, "text": "", "logprob": -0.5, "special": True},
        ],
        "top_tokens": [
            [{"id": 1, "text": "x", "logprob": -0.5, "special": False}],
            [{"id": 2, "text": "", "logprob": -0.5, "special": False}],
        ],
    }


@pytest.mark.parametrize(
    ("path", "body"), [("/generate_stream", {}), ("/generate", {"stream": True}), ("/", {"stream": True})]
)
def test_a_stream_counts_its_events_and_the_last_has_the_text(path: str, body: dict[str, Any]) -> None:
    found = exchange({"inputs": "a", "parameters": {"details": True, "return_full_text": True}} | body, path)

    frames = streamed(found).decode().split("\n\n")[:-1]
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames]

    assert found.stream and found.media_type == "text/event-stream"
    assert [event["index"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert "".join(event["token"]["text"] for event in events) == TEXT
    assert [event["generated_text"] for event in events] == [None] * 6 + ["a" + TEXT]
    assert events[-1]["details"] == {
        "finish_reason": "eos_token", "generated_tokens": 7, "seed": None, "input_length": 5,
    }  # fmt: skip


def test_details_tell_the_seed_that_was_drawn_and_which_one_made_each_of_the_best() -> None:
    one, other = (exchange({"inputs": "a", "parameters": {"details": True, "do_sample": True}}) for _ in range(2))
    best = exchange({"inputs": "a", "parameters": {"details": True, "do_sample": True, "best_of": 2, "seed": 4}})
    answers = [finished(["x"]), finished(["y"])]
    likely = [token._replace(logprob=-0.1) for token in answers[1].tokens]

    drawn = json.loads(one.reply([finished(["x"])]))["details"]["seed"]
    details = json.loads(best.reply([answers[0], replace(answers[1], tokens=likely)]))["details"]

    assert drawn == one.requests[0].sampling.seed != other.requests[0].sampling.seed
    assert isinstance(drawn, int)
    assert details["seed"] == best.requests[1].sampling.seed != 4
    assert details["best_of_sequences"][0]["seed"] == 4


@pytest.mark.parametrize("parameters", [{"temperature": 1.0}, {"top_p": 1.0}, {"top_k": 10}, {"do_sample": True}])
def test_any_parameter_of_chance_draws_tokens(parameters: dict[str, Any]) -> None:
    found = exchange({"inputs": "a", "parameters": parameters})

    assert found.requests[0].sampling.temperature == 1.0


def test_best_of_answers_with_the_likeliest_and_the_others_in_its_details() -> None:
    found = exchange({"inputs": "a", "parameters": {"best_of": 2, "details": True, "do_sample": True}})

    document = json.loads(found.reply([finished(["x"]), finished(["y"])]))

    assert len(found.requests) == 2 and document["generated_text"] == "x"
    assert [each["generated_text"] for each in document["details"]["best_of_sequences"]] == ["y"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "'inputs' must be a text: got null"),
        ({"inputs": ["a"]}, "'inputs' must be a text: got a list"),
        ({"inputs": ""}, "got an empty text"),
        ({"inputs": "a", "parameters": {"n": 2}}, 'unknown parameter "n"'),
        ({"inputs": "a", "parameters": {"watermark": True}}, "'watermark' must be false or null"),
        ({"inputs": "a", "parameters": {"grammar": {"type": "regex"}}}, "answers are not bound to a grammar"),
        ({"inputs": "a", "stream": True, "parameters": {"best_of": 2}}, "'best_of' above 1 cannot be streamed"),
    ],
)
def test_a_wrong_request_gets_422_and_tgis_error(body: object, sentence: str) -> None:
    with pytest.raises(Misread) as caught:
        exchange(body)

    document = json.loads(caught.value.answer.body)
    assert caught.value.answer.status == 422 and document["error_type"] == "validation"
    assert sentence in document["error"]


@pytest.mark.parametrize(("code", "kind"), [(424, "generation"), (429, "overloaded"), (503, "unhealthy")])
def test_other_errors_keep_their_status_and_have_tgis_type(code: int, kind: str) -> None:
    answer = failure("/generate", code, "no", Defaults())

    assert answer.status == code and json.loads(answer.body) == {"error": "no", "error_type": kind}


def test_a_stream_that_breaks_says_so_in_an_event() -> None:
    found = exchange({"inputs": "a"}, "/generate_stream")
    found.event(0, pieces()[0])

    assert json.loads(found.broken(424, "no").removeprefix(b"data: ")) == {"error": "no", "error_type": "generation"}
