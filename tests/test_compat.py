"""djl_python's names, as users' scripts import them: Input and Output behave as LMI's do."""

from __future__ import annotations

import json
from datetime import date, datetime

import numpy as np
import pytest

from djl_python import Input, Output, PairList


def request(body: bytes, **properties: str) -> Input:
    inputs = Input({name.replace("_", "-"): value for name, value in properties.items()})
    inputs.content.add("data", body)
    return inputs


def test_the_first_call_has_no_content() -> None:
    assert Input().is_empty()
    assert Input().get_as_json() is None and Input().get_as_string() is None and Input().get_as_bytes() is None


def test_a_body_is_read_as_bytes_text_and_json() -> None:
    inputs = request('{"inputs": "é"}'.encode())

    assert inputs.get_as_bytes() == '{"inputs": "é"}'.encode()
    assert inputs.get_as_string() == '{"inputs": "é"}'
    assert inputs.get_as_json() == {"inputs": "é"}
    assert inputs.get_as_json("data") == {"inputs": "é"}


def test_content_under_an_unknown_key_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no content has the key 'image'"):
        request(b"x").get_as_bytes("image")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [("application/json; charset=utf-8", {"a": 1}), ("text/plain", '{"a": 1}'), ("application/x-tea", b'{"a": 1}')],
)
def test_get_data_follows_the_content_type(content_type: str, data: object) -> None:
    assert request(b'{"a": 1}', Content_Type=content_type).get_data() == data


def test_properties_are_found_whatever_their_capitals() -> None:
    inputs = request(b"x", Content_Type="text/csv")

    assert inputs.get_property("content-type") == "text/csv"
    assert inputs.get_property("accept") is None
    properties = inputs.get_properties()
    assert properties["Content-Type"] == properties.get("CONTENT-TYPE") == "text/csv" and "content-Type" in properties
    assert (properties.get("Accept"), properties.get("Accept", "*/*"), "Accept" in properties) == (None, "*/*", False)
    with pytest.raises(KeyError, match="Accept"):
        properties["Accept"]


def test_a_test_of_a_users_may_fill_an_input_by_hand() -> None:
    inputs = Input()
    inputs.properties = {"model_id": "x"}
    inputs.content.add(key="text", value=b"hello")

    assert inputs.get_as_string() == "hello"
    assert inputs.get_properties() == {"model_id": "x"}
    assert [each.get_batch_size() for each in inputs.get_batches()] == [1]


def test_an_output_takes_text_bytes_and_anything_with_a_json_form() -> None:
    told = {"n": np.int64(3), "a": np.ones(2), "d": date(2026, 1, 2), "t": datetime(2026, 1, 2, 3, 4, 5)}
    output = Output().add("é").add(b"\x00").add(told, "key")

    assert output.content.get_values()[:2] == ["é".encode(), b"\x00"]
    read = json.loads(output.content.get("key"))
    assert read == {"n": 3, "a": [1.0, 1.0], "d": "2026-01-02", "t": "2026-01-02 03:04:05"}


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        Output().add({"x": object()})
    with pytest.raises(ValueError):
        Output().add_as_json(float("inf"))


def test_an_error_replaces_the_content_and_the_code() -> None:
    output = Output().add("half").error("no tea")

    assert output.code == 424
    assert output.get_property("Content-Type") == "application/json"
    assert json.loads(output.content.value_at(0)) == {
        "error": "no tea",
        "code": 424,
        "message": "invoke handler failure",
    }


def test_setters_chain_and_batch_rows_have_lmis_keys() -> None:
    output = Output().set_code(201).set_message("made").add_property("x", "y").add("a", batch_index=1)

    assert (output.code, output.message, output.get_properties()) == (201, "made", {"x": "y"})
    assert output.content.get_keys() == ["batch_1."]


def test_a_finalizer_that_fails_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    Output().finalize(lambda cup: cup / 0, 1).execute_finalize()

    assert "the function given to Output.finalize failed" in caplog.text


def test_a_finalizers_value_is_given_to_who_calls_it() -> None:
    assert Output().finalize(max, 1, 3, 2).execute_finalize() == 3


def test_pairs_are_two_lists_that_may_be_given_read_and_changed() -> None:
    pairs = PairList(keys=["a"], values=[1])
    pairs.add(pair=("b", 2))
    pairs.add(key="c", value=0)
    pairs.add(key="first", value=b"", index=0)
    pairs.add_all(other=PairList(pair_list=[("d", 4)]))
    pairs.values[1] = 9

    assert (pairs.keys, pairs.values) == (["first", "a", "b", "c", "d"], [b"", 9, 2, 0, 4])
    assert (pairs.get_keys(), pairs.get_values(), pairs.get(key="a")) == (pairs.keys, pairs.values, 9)
    assert list(PairList(pair_map={"x": 1})) == [("x", 1)]
    with pytest.raises(ValueError, match="as many keys as values: got 2 and 1"):
        PairList(["a", "b"], [1])


def test_pairs_keep_their_order_and_may_lack_keys() -> None:
    pairs = PairList()
    pairs.add(value=1)
    pairs.add("k", 2)

    assert list(pairs) == [(None, 1), ("k", 2)]
    assert (pairs.key_at(0), pairs.value_at(1), pairs.get("none"), len(pairs)) == (None, 2, None, 2)
