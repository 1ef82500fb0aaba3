"""What of the native engine's way over a GPU can be shown without one (fake_gpu.py)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from heavylift_runtime.engines.native import load
from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.memory import SHARE, Caches
from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.nccl import Beside, beside
from heavylift_runtime.native.place import check_float8, device_of
from heavylift_runtime.native.vocabulary import Vocabulary
from heavylift_runtime.native.wish import Wish
from heavylift_runtime.options import Options
from tests import fake_gpu
from tests.native_cores import core_of
from tests.published import PUBLISHED
from tests.rank_pool import Pool

T5_XXL = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_decoder_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer")


def short(config: dict[str, Any]) -> dict[str, Any]:
    """Two layers of it: the others are alike."""
    return {key: min(2, value) if key in LAYERS else value for key, value in config.items()}


CONFIGS = {"T5-XXL": short(T5_XXL), **{name: short(PUBLISHED[name].config) for name in PUBLISHED if name != MIXTRAL}}
PATIENCE = 300


@pytest.fixture(scope="module")
def process() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, get_context("forkserver"), fake_gpu.begin) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_computes_on_the_gpu_alone(process: Executor, name: str) -> None:
    assert process.submit(fake_gpu.run, CONFIGS[name], record=False).result(PATIENCE) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_recorded_never_looks_at_a_number(process: Executor, name: str) -> None:
    recorded = process.submit(fake_gpu.run, CONFIGS[name], record=True).result(PATIENCE)

    assert 1 <= recorded <= 3  # in room for one, two and four rows


@pytest.mark.slow
def test_a_mixture_of_experts_cannot_be_recorded_for_tokens_choose_what_is_computed(process: Executor) -> None:
    with pytest.raises(fake_gpu.LookedError, match="unique"):
        process.submit(fake_gpu.run, short(PUBLISHED[MIXTRAL].config), record=True).result(PATIENCE)


def exchange(mesh: Mesh) -> list[list[float]]:
    """What a rank hears in the GPUs' way, which here is gloo's; its number is in everything that it says."""
    world, own = mesh.everyone.world, float(mesh.everyone.rank)
    everyone = beside(mesh.everyone, world, torch.device("cpu"), "gloo")
    group = beside(mesh.group, world, torch.device("cpu"), "gloo")
    assert isinstance(everyone, Beside) and isinstance(group, Beside)
    found = [
        group.all_reduce(torch.full((3,), own)),
        group.all_gather(torch.full((2, 2), own)),
        everyone.all_gather(torch.tensor([own, -own])),
        group.broadcast(torch.tensor([own])),
    ]
    if own == 0:
        everyone.send(torch.arange(5.0), world - 1)
    if own == world - 1:
        found.append(everyone.receive(torch.zeros(5), 0))
    everyone.barrier()
    return [each.flatten().tolist() for each in found]


@pytest.mark.slow
def test_the_gpus_way_says_to_each_rank_what_the_hosts_way_says(tmp_path: Path) -> None:
    pool = Pool(4, tmp_path)

    try:
        ranks = pool.run(2, 2, exchange)
    finally:
        pool.close()

    every = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0]
    assert ranks[0] == ranks[1] == [[1.0] * 3, [0.0] * 4 + [1.0] * 4, every, [0.0]]
    assert ranks[2] == [[5.0] * 3, [2.0] * 4 + [3.0] * 4, every, [2.0]]
    assert ranks[3] == [*ranks[2], [0.0, 1.0, 2.0, 3.0, 4.0]]


class _Unwired:
    """Says that it was asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the device's way was asked for {name}")


def test_what_lies_in_the_hosts_memory_goes_the_hosts_way() -> None:
    group: Any = Beside(Alone(), _Unwired(), "cuda")  # type: ignore[arg-type]
    tensor = torch.tensor([3.0])

    assert group.all_reduce(tensor) is tensor
    assert group.all_gather(tensor).tolist() == [[3.0]]
    assert group.broadcast(tensor) is tensor


def test_each_rank_takes_its_own_gpu_and_too_few_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of(3, 4, 2) == torch.device("cpu")

    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)

    assert [device_of(rank, 4, 1).index for rank in range(4)] == taken == [0, 1, 2, 3]
    with pytest.raises(LoadError, match="1 copies of 8 ranks on a machine of 4 GPUs"):
        device_of(0, 8, 1)
    with pytest.raises(LoadError, match="'maxWorkers' to 1"):
        device_of(0, 1, 2)


@pytest.mark.parametrize(
    ("capability", "here"), [(None, "a processor"), ((8, 6), "one of 8.6"), ((7, 5), "one of 7.5")]
)
def test_8_bit_floats_are_refused_where_the_device_has_none(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, here: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    device = torch.device("cpu" if capability is None else "cuda")

    with pytest.raises(LoadError, match=f"8.9 or more .*; here is {here}; set 'int8'"):
        check_float8(device)


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (10, 0)])
def test_newer_gpus_have_8_bit_floats(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    check_float8(torch.device("cuda"))


def test_an_options_wishes_for_a_gpu_are_read_and_all_faults_are_named_at_once() -> None:
    assert Wish.of({}) == Wish(SHARE, eager=False, compiles=False)
    given = {"gpu_memory_utilization": "0.5", "enforce_eager": "true", "torch_compile": "True"}
    assert Wish.of(given) == Wish(0.5, eager=True, compiles=True)

    with pytest.raises(LoadError) as error:
        Wish.of({"gpu_memory_utilization": "1.5", "enforce_eager": "yes"})

    assert str(error.value).splitlines() == [
        "option.enforce_eager must be 'true' or 'false': got 'yes'",
        "option.gpu_memory_utilization must be above 0 and at most 1: got '1.5'",
    ]


@pytest.mark.parametrize(("key", "sentence"), [("torch_compile=true", "is for GPUs"), ("quantize=fp8", "8.9 or more")])
def test_on_a_processor_what_is_a_gpus_is_refused_before_anything_is_loaded(
    tiny_t5: Path, key: str, sentence: str
) -> None:
    options = Options.parse(f"engine=native\noption.{key}\n", {})

    with pytest.raises(LoadError, match=sentence):
        load(options, tiny_t5, 0, 1, "")


def test_a_cache_that_a_device_has_no_room_for_is_refused_with_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Caches, "taken", property(lambda caches: 4000))

    with pytest.raises(LoadError, match=r"takes 4000 bytes of cpu, of which it may have 1000: .* to 25%"):
        core_of(_Empty(), budget=1000)  # type: ignore[arg-type]


class _Empty:
    """A model of which nothing is asked but its sizes and its caches."""

    encodes, positions, device = False, 64, torch.device("cpu")
    vocabulary = Vocabulary(Alone(), 256, None, None, held=0)

    def stores(self, slots: int, source: int, text: int) -> list[Any]:
        return []
