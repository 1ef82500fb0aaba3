"""What a server adds to its engine's latency, how sure that is, and what the engine without a server is.

benchmarks/sides: added.py, bare_engine.py, relayed.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from heavylift_runtime.engines.engine import Piece, Request, Sampling
from heavylift_runtime.steps import roll
from tests.stepping import Parrot

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "sides"


@contextlib.contextmanager
def loaded(name: str) -> Iterator[ModuleType]:
    """The benchmarks' folder is no package: they run as scripts."""
    spec = importlib.util.spec_from_file_location(f"{name}_under_test", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def sides() -> Iterator[ModuleType]:
    with loaded("added") as module:
        yield module


@pytest.fixture
def engines() -> Iterator[ModuleType]:
    with loaded("bare_engine") as module:
        yield module


@pytest.fixture
def relays() -> Iterator[ModuleType]:
    with loaded("relayed") as module:
        yield module


def test_a_percentile_is_one_of_the_values_in_milliseconds(sides: ModuleType) -> None:
    seconds = [each / 1000 for each in range(1, 201)]

    assert [sides.percentile(seconds, share) for share in (0.5, 0.99, 1.0)] == [100, 198, 200]
    assert sides.percentile([0.004], 0.99) == 4


def test_what_every_answer_takes_longer_is_added_for_sure(sides: ModuleType) -> None:
    bare = [[0.010 + turn / 1000 + answer / 1e5 for answer in range(50)] for turn in range(6)]

    found = sides.added(bare, [[each + 0.002 for each in turn] for turn in bare], 0.99)

    assert (found.found, found.low, found.high) == pytest.approx((2, 2, 2))


def test_one_disturbed_turn_leaves_the_99th_percentile_open(sides: ModuleType) -> None:
    quiet = [[0.010] * 20 for _ in range(4)]
    disturbed = [*quiet[:3], [0.010] * 19 + [0.070]]

    found = sides.added(disturbed, quiet, 0.99)

    assert found.found == -60
    assert (found.low, found.high) == (-60, 0)


def test_the_same_turns_give_the_same_interval(sides: ModuleType) -> None:
    bare, side = [[0.01, 0.02], [0.03], [0.011]], [[0.02], [0.05, 0.01], [0.03]]

    assert sides.added(bare, side, 0.5) == sides.added(bare, side, 0.5)


def test_one_client_rests_before_each_of_its_requests_but_the_first(engines: ModuleType) -> None:
    rests: list[int] = []

    made = engines.play(Parrot(), 1, 0.05, engines.Sizes(2, 0), rests.append)

    assert rests == list(range(1, len(made.latencies)))
    assert made.tokens == 2 * len(made.latencies)


def test_several_clients_never_rest(engines: ModuleType) -> None:
    rests: list[int] = []

    made = engines.play(Parrot(capacity=3), 3, 0.05, engines.Sizes(2, 1), rests.append)

    assert len(made.latencies) > 0 and not rests


def test_an_engine_that_is_watched_tells_how_long_it_had_each_request_and_when_it_had_none(
    engines: ModuleType,
) -> None:
    parrot = Parrot()
    watched = engines.Watched(parrot)

    def answer(*keys: int) -> list[Piece]:
        for key in keys:
            parrot.add(key, Request("one two", Sampling(9)))
        came = []
        while parrot.busy:
            came += parrot.step()
        return came

    assert [piece.key for piece in answer(1) if piece.last] == [1]
    answer(2, 3)
    seen = watched.take()
    assert len(seen.had) == 3 and min(seen.had) > 0
    assert len(seen.pauses) == 1 and seen.pauses[0] > 0  # the third came while there was the second

    answer(4)
    assert [len(each) for each in vars(watched.take()).values()] == [1, 0]  # no pause between two rounds


def test_what_the_benchmark_itself_asks_of_a_watched_engine_is_not_seen(engines: ModuleType) -> None:
    parrot = Parrot()
    watched = engines.Watched(parrot)

    with watched.unwatched() as engine:
        engines.play(engine, 1, 0.01, engines.Sizes(2, 0))
    parrot.add(1, Request("one", Sampling(1)))
    parrot.step()

    assert engine is parrot and len(watched.take().had) == 1


def test_a_client_whose_answer_is_relayed_is_back_one_step_later_until_the_time_is_over(
    relays: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = 0, list[tuple[int, str]]()

    def step() -> None:
        nonlocal now
        now += 1

    def requests() -> Iterator[Request]:
        for prompt in itertools.chain(["a b c d e f", "a"], itertools.repeat("b")):
            asked.append((now, prompt))
            yield Request(prompt, Sampling(9, ignore_eos=True))

    monkeypatch.setattr(relays, "time", SimpleNamespace(perf_counter=lambda: now))
    with contextlib.closing(relays.Relay(2, 5, requests())) as relay:
        roll(Parrot(gate=step), relay)

    assert asked == [(0, "a b c d e f"), (0, "a"), (2, "b"), (4, "b")]
    assert (relay.tokens, relay.seconds) == (6 + 1 + 1 + 1, 6)
