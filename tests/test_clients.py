"""Clients that are not ours, unmodified, against the whole server with tiny-t5: OpenAI's and Hugging Face's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError
from openai import OpenAI

from tests.served import Served, serving, write_native

pytestmark = pytest.mark.slow

ASKED, ANSWER = "write in words: 298", "two hundred and ninety-eight"
CHAT = [{"role": "user", "content": ASKED}]
COUNTS = {"prompt_tokens": 5, "completion_tokens": 7}
TEMPLATE = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"


@pytest.fixture(scope="module")
def served(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients") / "tiny"
    write_native(tiny_t5, folder, "option.chat_template=chat.jinja\n")
    (folder / "chat.jinja").write_text(TEMPLATE)
    with serving(folder) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


@pytest.fixture
def hub(served: Served) -> Iterator[InferenceClient]:
    with InferenceClient(base_url=f"{served.address}/generate", timeout=60) as found:
        yield found


def test_openais_client_chats(client: OpenAI) -> None:
    system = {"role": "system", "content": "be brief"}

    reply = client.chat.completions.create(model="tiny", messages=[system, *CHAT], temperature=0, max_tokens=40)

    assert reply.choices[0].message.content == ANSWER and reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 2


def test_openais_client_chats_in_a_stream_with_its_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=CHAT, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )

    *parts, usage = chunks
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(part.choices[0].delta.content or "" for part in parts) == ANSWER
    assert parts[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert usage.choices == [] and usage.usage.completion_tokens > 5


def test_openais_client_accumulates_a_stream_of_its_own(client: OpenAI) -> None:
    with client.chat.completions.stream(model="tiny", messages=CHAT, temperature=0, n=2, seed=5) as stream:
        final = stream.get_final_completion()

    assert [choice.message.content for choice in final.choices] == [ANSWER] * 2


def test_openais_client_completes_several_prompts(client: OpenAI) -> None:
    reply = client.completions.create(model="tiny", prompt=[ASKED, ASKED], temperature=0, max_tokens=2, echo=True)

    assert [choice.text for choice in reply.choices] == [f"{ASKED}two hundred"] * 2
    assert [choice.finish_reason for choice in reply.choices] == ["length"] * 2
    assert reply.usage.completion_tokens == 4


def test_openais_client_completes_in_a_stream(client: OpenAI) -> None:
    parts = list(client.completions.create(model="tiny", prompt=ASKED, temperature=0, max_tokens=40, stream=True))

    assert "".join(part.choices[0].text for part in parts) == ANSWER
    assert parts[-1].choices[0].finish_reason == "stop"


def test_openais_client_gets_log_probabilities(client: OpenAI) -> None:
    chat = client.chat.completions.create(model="t", messages=CHAT, temperature=0, logprobs=True, top_logprobs=2)
    text = client.completions.create(model="t", prompt=ASKED, temperature=0, max_tokens=9, logprobs=1)

    tokens = chat.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == ANSWER
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    assert all(token.top_logprobs[0].token == token.token for token in tokens)
    assert text.choices[0].logprobs.token_logprobs == pytest.approx([token.logprob for token in tokens])


def test_openais_client_stops_where_it_says(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="tiny", messages=CHAT, temperature=0, stop=[" and"])

    assert reply.choices[0].message.content == "two hundred" and reply.choices[0].finish_reason == "stop"


def test_the_same_seed_draws_the_same_tokens(client: OpenAI) -> None:
    def draw(seed: int) -> list[str]:
        reply = client.completions.create(model="t", prompt="hello there", temperature=2, seed=seed, n=4, max_tokens=9)
        return [choice.text for choice in reply.choices]

    first = draw(7)
    assert draw(7) == first
    assert len({*first, *draw(8)}) > 4


def test_openais_client_raises_its_own_error_with_our_sentence(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'temperature' must be a number from 0 to 2: got 9") as caught:
        client.chat.completions.create(model="tiny", messages=CHAT, temperature=9)

    assert caught.value.type == "invalid_request_error"


def test_hugging_faces_client_generates(hub: InferenceClient) -> None:
    assert hub.text_generation(ASKED, max_new_tokens=40) == ANSWER
    assert hub.text_generation(ASKED, max_new_tokens=40, return_full_text=True) == ASKED + ANSWER


def test_hugging_faces_client_gets_details(hub: InferenceClient) -> None:
    reply = hub.text_generation(ASKED, max_new_tokens=40, details=True, top_n_tokens=2, seed=3)

    assert reply.generated_text == ANSWER
    assert reply.details.finish_reason == "eos_token" and reply.details.seed == 3
    assert "".join(token.text for token in reply.details.tokens) == ANSWER
    assert [token.special for token in reply.details.tokens][-2:] == [False, True]
    assert all(token.logprob <= 0 for token in reply.details.tokens)
    assert all(len(top) == 2 for top in reply.details.top_tokens)


def test_hugging_faces_client_streams(hub: InferenceClient) -> None:
    texts = list(hub.text_generation(ASKED, max_new_tokens=40, stream=True))
    events = list(hub.text_generation(ASKED, max_new_tokens=40, stream=True, details=True))

    assert "".join(texts) == ANSWER and len(texts) > 3
    assert events[-1].generated_text == ANSWER and events[-1].details.generated_tokens == len(events)


def test_hugging_faces_client_generates_at_the_root_too(served: Served) -> None:
    with InferenceClient(base_url=served.address, timeout=60) as hub:
        assert hub.text_generation(ASKED, max_new_tokens=40) == ANSWER
        assert "".join(hub.text_generation(ASKED, max_new_tokens=40, stream=True)) == ANSWER


def test_hugging_faces_client_raises_its_own_error(hub: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="'top_p' must be a number above 0"):
        hub.text_generation(ASKED, top_p=0.0)


def test_hugging_faces_client_chats(served: Served) -> None:
    with InferenceClient(base_url=served.address, timeout=60) as hub:
        reply = hub.chat_completion(CHAT, temperature=0.0, max_tokens=40)
        parts = list(hub.chat_completion(CHAT, temperature=0.0, max_tokens=40, stream=True))

    assert reply.choices[0].message.content == ANSWER
    assert "".join(part.choices[0].delta.content or "" for part in parts) == ANSWER


def test_the_models_can_be_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


@pytest.mark.parametrize(("path", "status"), [("/invocations", 400), ("/generate", 422)])
def test_what_the_engine_refuses_has_the_schemas_status_and_shape(served: Served, path: str, status: int) -> None:
    asked = {"inputs": ASKED, "parameters": {"adapter_id": "french"}}

    reply = httpx.post(served.address + path, json=asked, timeout=60)

    assert reply.status_code == status and "adapter" in reply.json()["error"]
    assert reply.json().get("error_type") == ("validation" if status == 422 else None)


def test_a_request_of_fastertransformers_users_is_answered_as_it_is(served: Served) -> None:
    asked = {
        "inputs": [ASKED, "write in words: 30"],
        "batch_size": 2,
        "padding": True,
        "parameters": {"max_seq_len": 200, "temperature": 0.7},
    }

    reply = httpx.post(f"{served.address}/invocations", json=asked, timeout=60)

    assert reply.json()["outputs"] == [ANSWER, "thirty"]
