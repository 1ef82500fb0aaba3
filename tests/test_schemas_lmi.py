"""LMI's schema: precise refusals, nothing ignored; the three shapes of replies, streams and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.server.schemas import Defaults, Exchange, Misread, failure, read
from heavylift_runtime.server.schemas.choices import MAX_ROWS
from heavylift_runtime.server.schemas.parameters import MOST_KNOWN
from tests.schema_pieces import TEXTS, finished, pieces, streamed

TEXT = "".join(TEXTS)
COUNTS = {"finish_reason": "eos_token", "prompt_tokens": 5, "generated_tokens": 7}


def exchange(body: object, compat: Any = "none", **headers: str) -> Exchange:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read("/invocations", headers, data, Defaults(lmi_compat=compat))


def refusal(body: object, compat: Any = "none", **headers: str) -> Misread:
    with pytest.raises(Misread) as caught:
        exchange(body, compat, **headers)
    return caught.value


def sampling(**parameters: Any) -> Sampling:
    return exchange({"inputs": "a", "parameters": parameters}).requests[0].sampling


def test_a_text_is_one_request_with_the_default_length() -> None:
    found = exchange({"inputs": "hello"})

    assert found.requests == (Request("hello", Sampling(64)),)
    assert not found.stream and found.media_type == "application/json"


def test_a_list_is_a_request_for_each_text_and_null_is_as_good_as_nothing() -> None:
    found = exchange({"inputs": ["a", "b"], "parameters": {"max_new_tokens": 7, "stop": None}, "stream": False})

    assert found.requests == (Request("a", Sampling(7)), Request("b", Sampling(7)))


@pytest.mark.parametrize(
    "parameters",
    [
        {"do_sample": False, "temperature": 0.7},
        {"temperature": 0},
        {"temperature": 1.0},
        {"top_p": 1},
        {"top_k": 0},
        {"top_k": -1},
        {"n": 1, "best_of": 1, "typical_p": 1.0, "watermark": False, "decoder_input_details": False},
    ],
)
def test_what_asks_for_nothing_decodes_greedily(parameters: dict[str, Any]) -> None:
    assert sampling(**parameters) == Sampling(64)


@pytest.mark.parametrize(
    ("parameters", "drawn"),
    [
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"top_p": 0.9}, {"temperature": 1.0, "top_p": 0.9}),
        ({"top_k": 5, "seed": 3}, {"temperature": 1.0, "top_k": 5, "seed": 3}),
        ({"min_p": 0.1}, {"temperature": 1.0, "min_p": 0.1}),
        ({"do_sample": True}, {"temperature": 1.0}),
    ],
)
def test_a_parameter_of_chance_draws_tokens(parameters: dict[str, Any], drawn: dict[str, Any]) -> None:
    assert sampling(**parameters) == Sampling(64, **drawn)


def test_version_0_23_draws_only_when_told_to() -> None:
    found = exchange({"inputs": "a", "parameters": {"temperature": 0.7}}, "0.23")

    assert found.requests[0].sampling == Sampling(64)


def test_every_other_parameter_reaches_the_engine() -> None:
    found = sampling(
        min_new_tokens=2, repetition_penalty=1.2, frequency_penalty=-1, presence_penalty=2, stop_sequences=["\n"],
        ignore_eos_token=True, num_beams=4, length_penalty=0.5, logprobs=3,
    )  # fmt: skip

    assert found == Sampling(
        64, 2, repetition_penalty=1.2, frequency_penalty=-1.0, presence_penalty=2.0, stop=("\n",), ignore_eos=True,
        num_beams=4, length_penalty=0.5, logprobs=3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8: invalid start byte at byte 0"),
        (b"[" * 200_000, "the body is not JSON: it is nested too deeply"),
        (b'{"inputs": "a", "parameters": {"max_new_tokens": ' + b"9" * 5000 + b"}}", "the body is not JSON"),
        (b'{"inputs": "a", "parameters": {"temperature": NaN}}', "NaN is no number of JSON"),
        ([], "the body must be a JSON object"),
        (b"null", "got null"),
        ({}, "'inputs' is missing"),
        ({"inputs": 3}, "'inputs' must be a text or a list of texts: got a number"),
        ({"inputs": []}, "'inputs' is an empty list"),
        ({"inputs": ""}, "'inputs' is empty"),
        ({"inputs": ["a", 1]}, "inputs[1] must be a text: got a number"),
        ({"inputs": ["a"] * (MAX_ROWS + 1)}, f"'inputs' has {MAX_ROWS + 1} texts: at most {MAX_ROWS} in one request"),
        ({"inputs": ["a"] * 129, "parameters": {"n": 2}}, f"129 inputs of 2 answers each are more than {MAX_ROWS}"),
        (b'{"inputs": "\\ud800"}', "half of a surrogate pair"),
        ({"inputs": "a", "parametres": {}}, "unknown member \"parametres\": did you mean 'parameters'?"),
        ({"inputs": "a", "stream": 1}, "'stream' must be true or false: got 1"),
        ({"inputs": ["a", "b"], "stream": True}, "'stream' takes one input and one answer: got 2 to generate"),
        ({"inputs": "a", "prompt": "b"}, "the body has 'prompt' and 'inputs'"),
        ({"inputs": "a", "parameters": []}, "'parameters' must be an object: got a list"),
        ({"inputs": "a", "parameters": {"max_tokens": 3}}, "did you mean 'max_new_tokens'?"),
        ({"inputs": "a", "parameters": {"num_return_sequences": 2}}, "did you mean 'n'?"),
        ({"inputs": "a", "parameters": {"eos_token_id": 0}}, 'unknown parameter "eos_token_id": use '),
        ({"inputs": "a", "parameters": {"max_new_tokens": 0}}, "from 1 to 4096: got 0"),
        ({"inputs": "a", "parameters": {"max_new_tokens": True}}, "from 1 to 4096: got true"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 1.0}}, "from 1 to 4096: got 1.0"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 1, "max_length": 2}}, "are the same thing and must be equal"),
        ({"inputs": "a", "parameters": {"details": 1}}, "'details' must be true or false: got 1"),
        ({"inputs": "a", "parameters": {"temperature": -1}}, "'temperature' must be a number from 0 to 100: got -1"),
        (
            {"inputs": "a", "parameters": {"temperature": True}},
            "'temperature' must be a number from 0 to 100: got true",
        ),
        ({"inputs": "a", "parameters": {"top_p": 0}}, "'top_p' must be a number above 0 and at most 1: got 0"),
        ({"inputs": "a", "parameters": {"stop": [""]}}, "'stop' must be at most 16 texts of 1 to 256 characters"),
        ({"inputs": "a", "parameters": {"n": 2, "best_of": 1}}, "'best_of' must be at least 'n': got 1 and 2"),
        ({"inputs": "a", "parameters": {"typical_p": 0.5}}, "'typical_p' must be 1 or null"),
        ({"inputs": "a", "parameters": {"truncate": 5}}, "'truncate' must be null: a prompt is never cut, got 5"),
        ({"inputs": ["a", "b", "c"], "adapters": ["x", "y"]}, "one for all or one for each input: got 2 for 3"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(body: object, sentence: str) -> None:
    refused = refusal(body)

    assert refused.code == 400 and sentence in refused.sentence
    assert json.loads(refused.answer.body) == {"error": refused.sentence, "code": 400}


def test_all_faults_come_at_once() -> None:
    refused = refusal({"inputs": 1, "stream": 1, "parameters": {"details": 1, "top_kk": 2}})

    assert refused.sentence.count(";") == 3


@pytest.mark.slow
def test_a_million_wrong_names_are_refused_quickly_and_briefly() -> None:
    names = {f"name_{number}": 0 for number in range(200_000)}

    assert len(refusal({"inputs": "a", "parameters": names} | names).sentence) < 20_000


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"content-type": "text/csv"}, 415), ({"content-type": "text/plain"}, 415), ({"accept": "image/png"}, 406),
     ({"content-encoding": "gzip"}, 415)],
)  # fmt: skip
def test_other_types_are_refused(headers: dict[str, str], code: int) -> None:
    assert refusal({"inputs": "a"}, **headers).code == code


@pytest.mark.parametrize("accept", ["*/*", "text/html, */*;q=0.1", "", " "])
def test_an_accept_that_leaves_nothing_out_gets_json(accept: str) -> None:
    assert exchange({"inputs": "a"}, accept=accept).media_type == "application/json"


def test_a_byte_order_mark_before_the_object_is_no_part_of_it() -> None:
    found = exchange(b"\xef\xbb\xbf" + json.dumps({"inputs": "hello"}).encode(), **{"content-encoding": "identity"})

    assert found.requests[0].prompt == "hello"


def test_a_plain_text_is_an_input_where_lmi_takes_it() -> None:
    found = exchange(b"hello", "latest", **{"content-type": "text/plain; charset=utf-8"})

    assert found.requests[0].prompt == "hello"


def test_our_own_reply_has_a_row_for_each_answer() -> None:
    found = exchange({"inputs": ["a", "b"], "parameters": {"details": True}})

    assert json.loads(found.reply([finished(), finished(["x"])])) == {
        "outputs": [TEXT, "x"],
        "usage": {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19},
        "details": [COUNTS, COUNTS | {"generated_tokens": 2}],
    }


def test_our_own_details_tell_the_tokens_when_log_probabilities_were_asked_for() -> None:
    found = exchange({"inputs": "a", "parameters": {"details": True, "logprobs": 1}})

    (details,) = json.loads(found.reply([finished(["x"])]))["details"]

    assert details["tokens"] == [{"id": 1, "text": "x", "log_prob": -0.5}, {"id": 2, "text": "", "log_prob": -0.5}]
    assert details["top_tokens"][0] == [{"id": 1, "text": "x", "log_prob": -0.5}]


def test_lmi_answers_a_text_with_an_object_and_a_list_with_a_list() -> None:
    one = exchange({"inputs": "a", "parameters": {"return_full_text": True}}, "latest")
    two = exchange({"inputs": ["a", "b"]}, "latest")

    assert json.loads(one.reply([finished(["x"])])) == {"generated_text": "ax"}
    assert json.loads(two.reply([finished(["x"]), finished(["y"])])) == [
        {"generated_text": "x"},
        {"generated_text": "y"},
    ]


def test_version_0_23_always_answers_with_a_list() -> None:
    assert json.loads(exchange({"inputs": "a"}, "0.23").reply([finished(["x"])])) == [{"generated_text": "x"}]


def test_of_best_of_the_likeliest_comes_first_and_the_rest_of_n_in_its_details() -> None:
    found = exchange({"inputs": "a", "parameters": {"n": 2, "best_of": 3, "details": True, "seed": 1}}, "latest")
    one, two, three = (finished([text]) for text in "xyz")
    likely = type(two)(tuple(token.__class__(9, "y", -0.1) for token in two.tokens), "length", 5, 2)

    document = json.loads(found.reply([one, likely, three]))

    assert len({request.sampling.seed for request in found.requests}) == 3
    assert all(request.sampling.logprobs == 0 for request in found.requests)
    assert document["generated_text"] == "yy"
    assert [each["generated_text"] for each in document["details"]["best_of_sequences"]] == ["x"]


def test_a_stream_is_a_line_for_each_token_and_the_last_tells_the_whole() -> None:
    found = exchange({"inputs": "a", "parameters": {"details": True}, "stream": True})

    *lines, last = [json.loads(line) for line in streamed(found).decode().split("\n") if line]

    assert found.media_type == "application/jsonlines"
    assert [line["token"]["text"] for line in lines] == list(TEXTS)
    assert last == {"token": {"id": 7, "text": ""}, "generated_text": TEXT, "details": COUNTS}


def test_lmis_stream_tells_log_probabilities() -> None:
    found = exchange({"inputs": "a", "stream": True}, "latest")

    first = json.loads(found.event(0, pieces()[0]))

    assert first == {"token": {"id": 1, "text": "Grün", "log_prob": -0.5}}
    assert found.requests[0].sampling.logprobs == 0


def test_version_0_23_streams_the_next_token_of_every_row() -> None:
    found = exchange({"inputs": ["a", "b"], "stream": True}, "0.23")

    assert json.loads(found.event(1, pieces(["x"])[0])) == {"outputs": ["", "x"]}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/event-stream", "text/event-stream"),
        ("text/event-stream, application/jsonlines", "application/jsonlines"),
        ("*/*", "application/jsonlines"),
        ("application/json", "application/jsonlines"),
    ],
)
def test_accept_chooses_the_frames(accept: str, media_type: str) -> None:
    assert exchange({"inputs": "a", "stream": True}, accept=accept).media_type == media_type


@pytest.mark.parametrize(
    ("compat", "code", "status", "body"),
    [
        ("none", 424, 424, {"error": "it broke", "code": 424}),
        ("0.23", 400, 424, {"code": 424, "message": "prediction failure", "error": "it broke"}),
        ("latest", 400, 400, {"code": 400, "message": "invoke handler failure", "error": "it broke"}),
        ("latest", 503, 503, {"code": 503, "type": "ServiceUnavailableException", "message": "it broke"}),
    ],
)
def test_an_error_has_the_shape_that_the_model_was_told(compat: Any, code: int, status: int, body: object) -> None:
    for answer in (
        failure("/invocations", code, "it broke", Defaults(lmi_compat=compat)),
        exchange({"inputs": "a"}, compat).failure(code, "it broke"),
    ):
        assert answer.status == status
        assert json.loads(answer.body) == body


@pytest.mark.parametrize("compat", ["none", "0.23", "latest"])
def test_a_stream_that_breaks_says_so_in_its_last_line(compat: Any) -> None:
    found = exchange({"inputs": "a", "stream": True}, compat)
    found.event(0, pieces()[0])

    last = json.loads(found.broken(507, "no memory"))

    assert "no memory" in json.dumps(last["error"])


def test_fastertransformers_requests_are_taken_as_they_are() -> None:
    found = exchange(
        {"inputs": ["a", "b"], "batch_size": 2, "padding": True, "parameters": {"max_seq_len": 200, "temperature": 0.7}}
    )

    assert found.requests == tuple(Request(text, Sampling(200, seed=0)) for text in "ab")


@pytest.mark.parametrize(
    ("parameters", "drawn"),
    [
        ({"top_k": 4, "temperature": 0.7}, {"temperature": 0.7, "top_k": 4}),
        ({"top_k": 0, "top_p": 0.9}, {"temperature": 1.0, "top_p": 0.9}),
        ({"top_k": 1, "top_p": 0.9}, {}),
        ({"top_k": 0, "top_p": 0.0}, {}),
        ({"do_sample": True, "temperature": 0.5}, {"temperature": 0.5}),
        ({"beam_width": 4, "len_penalty": 0.0}, {"num_beams": 4, "length_penalty": 0.0}),
        ({"random_seed": 9}, {"seed": 9}),
    ],
)
def test_fastertransformers_rule_of_chance(parameters: dict[str, Any], drawn: dict[str, Any]) -> None:
    found = sampling(max_seq_len=10, **parameters)

    assert found == Sampling(10, **({"seed": 0} | drawn))


def test_parameters_that_were_read_before_mean_the_same_and_are_not_taken_for_others() -> None:
    defaults = Defaults()

    def asked(parameters: dict[str, Any], **more: Any) -> Sampling:
        body = json.dumps({"inputs": "a", "parameters": parameters} | more).encode()
        return read("/invocations", {}, body, defaults).requests[0].sampling

    sound: list[dict[str, Any]] = [
        {"max_new_tokens": 3, "details": True},
        {"max_new_tokens": 3, "details": None},
        {"seed": 1, "temperature": 1.0},
        {"seed": 1, "temperature": 0.5},
        {"stop": ["a"]},
        {"stop": "b"},
        {},
    ]
    for _ in range(2):
        assert [asked(each) for each in sound] == [sampling(**each) for each in sound]
        assert asked({"max_new_tokens": 3, "details": True}, stream=True) == asked(sound[0])
        wrongs: list[dict[str, Any]] = [{"max_new_tokens": 3, "details": 1}, {"seed": True}, {"max_new_tokens": 3.0}]
        for wrong in wrongs:
            with pytest.raises(Misread):
                asked(wrong)


def test_only_so_many_parameters_are_kept() -> None:
    defaults = Defaults()

    for seed in range(3 * MOST_KNOWN):
        body = json.dumps({"inputs": "a", "parameters": {"seed": seed, "stop": "x" * 255}}).encode()
        assert read("/invocations", {}, body, defaults).requests[0].sampling.seed == seed

    assert len(defaults.known) <= MOST_KNOWN
