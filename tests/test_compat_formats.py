"""djl_python's formats: NDList and npz, content types in, Accept out, and requests in batches."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from djl_python import Input, Output
from djl_python.encode_decode import decode, encode
from djl_python.np_util import from_nd_list, from_npz, to_nd_list, to_npz
from djl_python.test_model import (
    create_concurrent_batch_request,
    create_image_request,
    create_json_request,
    create_npz_request,
    create_numpy_request,
    create_text_request,
    extract_output_as_numpy,
    extract_output_as_string,
)

DTYPES = ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64"]
# one float32 array of shape (2,), written by hand after the description of DJL's NDSerializer
BY_HAND = (
    struct.pack(">i", 1)
    + b"\x00\x04NDAR"
    + struct.pack(">iB", 3, 0)
    + b"\x00\x07default\x00\x07FLOAT32"
    + struct.pack(">iqi", 1, 2, 1)
    + b"\x00?"
    + b"<"
    + struct.pack(">i", 8)
    + struct.pack("<ff", 1.5, -2)
)


def of(body: bytes, kind: str) -> Input:
    inputs = Input({"content-type": kind})
    inputs.content.add("data", body)
    return inputs


@given(st.lists(st.sampled_from(DTYPES).flatmap(lambda d: arrays.arrays(d, arrays.array_shapes(min_dims=0)))))
def test_an_nd_list_holds_arrays_of_every_kind_and_shape(given_arrays: list[Any]) -> None:
    found = from_nd_list(to_nd_list(given_arrays))

    assert [(each.dtype, each.shape) for each in found] == [(each.dtype, each.shape) for each in given_arrays]
    assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(found, given_arrays, strict=True))


def test_an_nd_list_has_the_bytes_that_djl_writes() -> None:
    assert to_nd_list([np.array([1.5, -2], np.float32)]) == BY_HAND
    assert from_nd_list(BY_HAND)[0].tolist() == [1.5, -2.0]


def test_an_nd_list_in_javas_byte_order_is_read() -> None:
    assert from_nd_list(BY_HAND.replace(b"<", b">").replace(struct.pack("<ff", 1.5, -2), struct.pack(">ff", 1.5, -2)))[
        0
    ].tolist() == [1.5, -2.0]


@given(st.integers(0, len(BY_HAND) - 1))
def test_an_nd_list_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"ends early|no array of NDList"):
        from_nd_list(BY_HAND[:length])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (BY_HAND + b"x", "is followed by 1 bytes"),
        (BY_HAND.replace(b"FLOAT32", b"FLOAT99"), "has the type 'float99'"),
        (BY_HAND.replace(b"default", b"row_spa"), "must not be sparse: got 'row_spa'"),
        (BY_HAND.replace(struct.pack(">iq", 1, 2), struct.pack(">iq", 99, 2)), "99 axes: at most 64"),
    ],
)
def test_a_broken_nd_list_is_refused_with_the_reason(body: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_nd_list(body)


def test_objects_are_never_unpickled() -> None:
    file = io.BytesIO()
    np.savez(file, np.array([{"a": 1}], dtype=object))

    with pytest.raises(ValueError, match="allow_pickle=False"):
        from_npz(file.getvalue())
    with pytest.raises(TypeError, match="an NDList holds numbers: got an array of object"):
        to_nd_list([np.array([{}], dtype=object)])


def test_npz_arrays_keep_their_order() -> None:
    found = from_npz(to_npz([np.arange(3), np.ones((2, 2))]))

    assert [each.tolist() for each in found] == [[0, 1, 2], [[1.0, 1.0], [1.0, 1.0]]]


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"inputs": "a"}', "application/json", {"inputs": "a"}),
        (b'{"inputs": "a"}', None, {"inputs": "a"}),
        ("é".encode(), "text/plain; charset=utf-8", {"inputs": ["é"]}),
        (b"inputs\na\nb\n", "text/csv", {"inputs": ["a", "b"]}),
        (b"question,context\nwho,me\n", "text/csv", {"inputs": [{"question": "who", "context": "me"}]}),
        (b"Question,Context\nwho,me\n", "text/csv", {"inputs": [{"Question": "who", "Context": "me"}]}),
        (b"\x00", "audio/wav", {"inputs": b"\x00"}),
        (b"\xff", "application/octet-stream", {"inputs": b"\xff"}),
        (b"PAR1", "application/x-parquet", {"inputs": b"PAR1"}),
        (b"<p>", "text/html", {"inputs": b"<p>"}),
        (b"inputs=a+b&n=", "application/x-www-form-urlencoded", {"inputs": "inputs=a+b&n="}),
        (b"", None, {"inputs": ""}),
        (b'{"a": 1}', "application/jsonlines", {"a": 1}),
    ],
)
def test_a_body_is_decoded_by_its_content_type(body: bytes, kind: str | None, value: object) -> None:
    assert decode(of(body, kind or ""), kind) == value


def test_a_csv_without_a_known_column_is_refused() -> None:
    with pytest.raises(ValueError, match="must name one of question, context, inputs: got 'tea'"):
        decode(of(b"tea\ngreen\n", "text/csv"), "text/csv")


def test_a_csv_without_names_is_an_array_of_numbers() -> None:
    rows = decode(of(b"1,2\n3,4.5\n", "text/csv"), content_type="text/csv", require_csv_headers=False)

    assert rows.tolist() == [[1.0, 2.0], [3.0, 4.5]]
    for body in (b"tea,2\n", b""):
        with pytest.raises(ValueError, match="must be numbers alone"):
            decode(of(body, "text/csv"), "text/csv", require_csv_headers=False)


def test_arrays_and_images_are_decoded_and_read_by_content_type() -> None:
    numbers = [np.array([1, 2])]

    assert decode(create_npz_request(numbers), "tensor/npz")["inputs"][0].tolist() == [1, 2]
    for kind in ("tensor/ndlist", "application/x-npy"):
        assert decode(create_numpy_request(numbers), kind)["inputs"][0].tolist() == [1, 2]
    assert create_numpy_request(numbers).get_data()[0].tolist() == [1, 2]
    assert create_npz_request(numbers).get_as_numpy()[0].tolist() == [1, 2]
    assert create_image_request(Image.new("RGB", (3, 2))).get_data().size == (3, 2)
    assert str(create_text_request("hello")) == "properties: {'content-type': 'text/plain'}\ndata: hello"


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        (None, "application/json", b'[{"a": 1}]'),
        ("*/*", "application/json", b'[{"a": 1}]'),
        ("application/*", "application/json", b'[{"a": 1}]'),
        ("image/png, text/csv;q=0.5", "text/csv", b"a\r\n1\r\n"),
        ("text/plain", "text/plain; charset=utf-8", b"[{'a': 1}]"),
    ],
)
def test_a_reply_is_encoded_as_the_client_accepts(accept: str | None, kind: str, body: bytes) -> None:
    output = encode(Output(), [{"a": 1}], accept)

    assert (output.get_property("content-type"), output.content.value_at(0)) == (kind, body)


def test_a_reply_of_arrays_is_encoded_as_tensors() -> None:
    output = encode(Output(), [np.array([1, 2])], "tensor/ndlist")

    assert extract_output_as_numpy(output)[0].tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"Accept must name one of application/json, .* got 'image/png'"):
        encode(Output(), [], "image/png")


def test_requests_in_a_batch_keep_their_own_content_and_headers() -> None:
    one, two = create_json_request({"n": 1}), create_text_request("two")

    batch = create_concurrent_batch_request([one, two], serving_properties={"model_id": "m"})
    parts = batch.get_batches()

    assert batch.is_batch() and batch.get_batch_size() == 2
    assert [part.get_data() for part in parts] == [{"n": 1}, "two"]
    assert [part.get_property("model_id") for part in parts] == ["m", "m"]
    assert not parts[0].is_batch()


def test_streamed_items_are_lines_of_json_unless_a_formatter_says_otherwise() -> None:
    lines = Output().add_stream_content(iter(["é"]))
    raw = Output().add_stream_content(iter([b"x"]), output_formatter=None)

    assert lines.chunk("é") == '{"outputs": "é"}\n'.encode()
    assert raw.chunk(b"x") == b"x"
    assert Output().add_stream_content([], lambda item: f"<{item}>").chunk(1) == b"<1>"
    with pytest.raises(TypeError, match="must be bytes or text once it is formatted: got int"):
        raw.chunk(3)


def test_a_key_that_is_no_text_is_written_as_one(caplog: pytest.LogCaptureFixture) -> None:
    output = Output().add("a", key=7)  # type: ignore[arg-type]

    assert output.content.get_keys() == ["7"]
    assert "must be a text, got 7" in caplog.text
    assert extract_output_as_string(output, "7") == "a"
    assert json.loads(Output().add_as_json("a").content.value_at(0)) == "a"
