"""Passes that are made again by one call: the same numbers, and nothing kept that could not be made again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heavylift_runtime.native.architectures import Model, repeated
from heavylift_runtime.native.architectures.decoder import Decoder
from heavylift_runtime.native.architectures.repeated import Repeated
from heavylift_runtime.native.architectures.t5 import T5Model
from heavylift_runtime.native.kernels import calls, library
from heavylift_runtime.native.kernels.recording import Room, recorded
from heavylift_runtime.native.news import News
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import arrival, core_of, model_on, run
from tests.t5_checkpoints import write_t5

pytestmark = pytest.mark.skipif(
    library.why() is not None, reason=f"no kernels on this machine, and nothing to record: {library.why()}"
)
RECORDED = ("t5", "llama", "llama-tied-wide-biased", "mistral-window", "qwen2-window", "qwen3", "llama-3.1", "mixtral",
            "gpt2", "gptj", "gpt-neox", "gpt-neox-sequential", "opt", "opt-350m", "bloom-six-heads")  # fmt: skip
SCHEDULE = {
    0: News((arrival(0, [5, 9, 7], 60), arrival(1, [11], 9))),
    3: News((arrival(2, [3, 8, 2, 9, 30, 12, 6] * 5, 40),)),
    9: News((arrival(3, [4] * 30, 25), arrival(4, [7, 7], 50)), (1,)),
    30: News((arrival(5, list(range(3, 40)), 70),), (0,)),
}


@pytest.fixture(autouse=True)
def kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "OFTEN", 1)


def repeated_of(model: Model) -> Repeated:
    assert isinstance(model, T5Model | Decoder)
    return model._repeated


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("kind", RECORDED)
def test_answers_are_the_same_whether_passes_are_made_again_or_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, invariant: bool, dtype: torch.dtype
) -> None:
    family, config = KINDS.get(kind, ("", {}))
    folder = write_t5(tmp_path) if kind == "t5" else write_decoder(tmp_path, family, **config)
    model = model_on(folder, dtype=dtype)
    kept = repeated_of(model)

    again = run(core_of(model, invariant=invariant), SCHEDULE)
    assert kept._kept and all(each is not None for each in kept._kept.values())
    monkeypatch.setattr(Repeated, "__call__", lambda self, x, *parts: self._through(x, *parts))
    anew = run(core_of(model, invariant=invariant), SCHEDULE)

    assert again == anew


def test_a_pass_that_cannot_be_made_again_keeps_no_other_from_it() -> None:
    weight = torch.randn(8)
    repeated = Repeated(lambda x: calls.norm(x if len(x) < 3 else x + 0, weight, 1e-6))

    for rows in (4, 2, 4, 2):
        x = torch.randn(rows, 8)
        assert torch.equal(repeated(x), calls.norm(x, weight, 1e-6))

    assert [kept is None for kept in repeated._kept.values()] == [True, False]


def test_work_that_would_not_be_done_again_is_noticed() -> None:
    x, weight = torch.randn(2, 8), torch.randn(8)

    with recorded(Room()) as whole:
        calls.norm(calls.norm(x, weight, 1e-6)[:1].view(2, 4).flatten(0)[None], weight, 1e-6)
    with recorded(Room()) as spoilt:
        calls.norm(x + 1, weight, 1e-6)
    with recorded(Room()) as written:
        calls.norm(x, weight, 1e-6).zero_()

    assert whole.whole
    assert not spoilt.whole
    assert not written.whole


def test_a_recording_sees_what_its_tensors_hold_now() -> None:
    x, weight = torch.randn(2, 8), torch.randn(8)
    with recorded(Room()) as recording:
        y = calls.norm(x, weight, 1e-6)
    first = y.clone()

    x.copy_(torch.randn(2, 8))
    calls.again(recording)

    assert not torch.equal(y, first)
    assert torch.equal(y, calls.norm(x, weight, 1e-6))


def test_a_block_is_used_again_only_when_no_tensor_lies_in_it() -> None:
    room = Room()
    first = room.empty((4, 4), torch.float32)
    part = first[1:2].view(2, 2)
    at = first.data_ptr()

    del first
    assert room.empty((4, 4), torch.float32).data_ptr() != at
    del part
    assert room.empty((2, 8), torch.float32).data_ptr() == at
    assert at % 64 == 0


def test_the_forms_that_are_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "MOST", 2)
    model = model_on(write_decoder(tmp_path, *KINDS["llama"][:1], **KINDS["llama"][1]))

    run(core_of(model), SCHEDULE)

    assert 1 <= len(repeated_of(model)._kept) <= 2


def test_a_form_is_kept_when_it_has_come_often_and_goes_when_others_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "OFTEN", 3)
    monkeypatch.setattr(repeated, "REMEMBERED", 2)
    monkeypatch.setattr(repeated, "MOST", 2)
    weight = torch.randn(8)
    passes = Repeated(lambda x: calls.norm(x, weight, 1e-6))

    def kept_after(*rows: int) -> list[int]:
        for count in rows:
            x = torch.randn(count, 8)
            assert torch.equal(passes(x), calls.norm(x, weight, 1e-6))
        return [form[0][0] for form in passes._kept]  # type: ignore[index]  # a tuple that begins with x's shape

    assert kept_after(1, 1) == []
    assert kept_after(1) == [1]
    assert kept_after(2, 3, 2, 4, 2) == [1, 2]
    assert kept_after(1, 3, 3) == [2, 1], "3 was forgotten as 4 came"
    assert kept_after(3) == [1, 3], "2 had not come for longest"
